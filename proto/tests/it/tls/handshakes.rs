use super::pki::{Authority, Leaf, agent};
use super::world::{EchoStream, TestServer, WAIT, describe, endpoint};
use proto::tls::{Expected, HANDSHAKES_MAX, Identity, PlaintextReach, Role, Security};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::Code;

fn own() -> Expected {
    Expected::OwnAgents
}

#[tokio::test]
async fn agents_of_one_deployment_talk() {
    let authority = Authority::new("a");
    let server = TestServer::start(&authority.security(&agent("a"))).await;
    server.echo(&authority.security(&agent("a")), &own()).await.unwrap();
    // The name is what counts, and it is the server's identity.
    let channel = authority.security(&agent("a")).connect(&endpoint(server.address), &own()).await;
    EchoStream::open(channel.unwrap()).await.unwrap().echo(2).await.unwrap();
}

#[tokio::test]
async fn a_client_refuses_a_server_that_proves_nothing() {
    let authority = Authority::new("a");
    let (other, namesake) = (Authority::new("b"), Authority::new("a"));
    let client = authority.security(&agent("a"));
    let name = || Leaf::new(agent("a"));
    let bad = |leaf: Leaf| authority.security_with(&leaf, Role::Agent);
    let table = [
        ("another authority", other.security(&agent("a")), "UnknownIssuer"),
        ("another one of that name", namesake.security(&agent("a")), "BadSignature"),
        ("expired", bad(name().expired()), "expired"),
        ("of tomorrow", bad(name().of_tomorrow()), "not valid yet"),
        ("another deployment", authority.security(&agent("b")), "not valid for name"),
        ("only for clients", bad(name().only_for(ExtendedKeyUsagePurpose::ClientAuth)), "usage"),
    ];
    for (what, security, reason) in table {
        let server = TestServer::start(&security).await;
        let text = describe(&server.echo(&client, &own()).await.unwrap_err());
        assert!(text.contains(reason), "{what}: {text}");
        assert!(text.contains(&agent("a").to_string()), "{what}: {text}");
        assert!(text.contains(&server.address.to_string()), "{what}: {text}");
    }
    let plaintext = TestServer::start(&Security::Plaintext).await;
    let text = describe(&plaintext.echo(&client, &own()).await.unwrap_err());
    assert!(text.contains("does not prove"), "{text}");
}

#[tokio::test]
async fn a_server_refuses_a_client_that_proves_nothing() {
    let (authority, other) = (Authority::new("a"), Authority::new("a"));
    let server = TestServer::start(&authority.security(&agent("a"))).await;
    let name = || Leaf::new(agent("a"));
    let client = |issuer: &Authority, leaf: Leaf| {
        let pem = issuer.issue(&leaf, &[&authority]);
        Security::from_pem(pem, Role::Agent).unwrap()
    };
    let only_server = name().only_for(ExtendedKeyUsagePurpose::ServerAuth);
    let table = [
        ("another authority", client(&other, name())),
        ("expired", client(&authority, name().expired())),
        ("of tomorrow", client(&authority, name().of_tomorrow())),
        ("only for servers", client(&authority, only_server)),
        ("plaintext", Security::Plaintext),
    ];
    for (what, security) in table {
        let status = server.echo(&security, &own()).await.unwrap_err();
        // Whatever broke: no service has seen it.
        let codes = [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled];
        assert!(codes.contains(&status.code()), "{what}: {}", describe(&status));
    }
    server.echo(&authority.security(&agent("a")), &own()).await.unwrap();
}

#[tokio::test]
async fn a_trusted_certificate_of_a_stranger_is_told_so() {
    let authority = Authority::new("a");
    let server = TestServer::start(&authority.security(&agent("a"))).await;
    let config = raw_client(&authority, &[&rustls::version::TLS13]);
    let pem = authority.issue(&Leaf::new("example.com"), &[]);
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(&pem.key).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&pem.certificate).unwrap()];
    let config = config.with_client_auth_cert(chain, key).unwrap();
    let connector = tower::service_fn(move |_| {
        let (config, address) = (config.clone(), server.address);
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from(agent("a").to_string()).unwrap();
            let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
            std::io::Result::Ok(hyper_util::rt::TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    let channel = endpoint(([127, 0, 0, 1], 1).into()).connect_with_connector_lazy(connector);
    let Err(status) = EchoStream::open(channel).await else { panic!("a stranger was let in") };
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains("example.com"), "{status}");
    assert!(status.message().contains(&agent("a").to_string()), "{status}");
}

#[tokio::test]
async fn no_certificate_and_no_old_tls() {
    let authority = Authority::new("a");
    let server = TestServer::start(&authority.security(&agent("a"))).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = raw_client(&authority, &[version]).with_no_client_auth();
        assert_closed(server.address, config, &format!("{version:?}")).await;
    }
    let pem = authority.issue(&Leaf::new(agent("a")), &[]);
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(&pem.key).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&pem.certificate).unwrap()];
    let old = raw_client(&authority, &[&rustls::version::TLS12]);
    assert_closed(server.address, old.with_client_auth_cert(chain, key).unwrap(), "1.2").await;
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn raw_client(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> Builder {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
}

/// The server ends the connection without a byte of HTTP/2, which it would begin with its settings.
async fn assert_closed(address: std::net::SocketAddr, config: ClientConfig, what: &str) {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(agent("a").to_string()).unwrap();
    let talk = async {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await?;
        stream.read(&mut [0; 64]).await
    };
    match tokio::time::timeout(WAIT, talk).await.unwrap() {
        Err(_) | Ok(0) => {}
        Ok(bytes) => panic!("{what}: {bytes} bytes of an answer"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_say_nothing_keep_nobody_out() {
    let authority = Authority::new("a");
    let server = TestServer::start(&authority.security(&agent("a"))).await;
    let client = authority.security(&agent("a"));
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_MAX + 64 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    server.echo(&client, &own()).await.unwrap();
    // Those who came first were pushed out by those who came last, and these have their time.
    for mut stream in silent {
        let closed = tokio::time::timeout(WAIT, stream.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)));
    }
    server.echo(&client, &own()).await.unwrap();
}

#[tokio::test]
async fn the_operator_must_say_whose_agents_it_means() {
    let authority = Authority::new("a");
    let server = TestServer::start(&authority.security(&agent("a"))).await;
    let operator = authority.security(&Identity::Operator);
    let text = describe(&server.echo(&operator, &own()).await.unwrap_err());
    assert!(text.contains("belongs to no deployment"), "{text}");
}

#[test]
fn without_tls_only_this_machine_may_call() {
    let authority = Authority::new("a");
    let mtls = authority.security(&agent("a"));
    let table = [
        (&Security::Plaintext, "127.0.0.1:7070", PlaintextReach::Loopback, true),
        (&Security::Plaintext, "[::1]:7070", PlaintextReach::Loopback, true),
        (&Security::Plaintext, "0.0.0.0:7070", PlaintextReach::Loopback, false),
        (&Security::Plaintext, "[::]:7070", PlaintextReach::Loopback, false),
        (&Security::Plaintext, "10.1.2.3:0", PlaintextReach::Loopback, false),
        (&Security::Plaintext, "0.0.0.0:7070", PlaintextReach::Anywhere, true),
        (&mtls, "0.0.0.0:7070", PlaintextReach::Loopback, true),
    ];
    for (security, address, reach, allowed) in table {
        let result = security.check_listen(address.parse().unwrap(), reach);
        assert_eq!(result.is_ok(), allowed, "{address} {reach:?}");
        if let Err(error) = result {
            let text = error.to_string();
            assert!(text.contains(address) && text.contains("--tls-directory"), "{text}");
        }
    }
}
