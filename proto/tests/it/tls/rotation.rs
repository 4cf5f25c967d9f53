//! Certificates and authorities change while calls go on.

use super::folder::Mounted;
use super::pki::{Authority, Leaf, agent};
use super::world::{EchoStream, TestServer, WAIT, describe};
use proto::tls::{Expected, Pem, Role, Security};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Callers at once, and calls that each of them makes after every change.
const CALLERS: usize = 4;
const CALLS: u64 = 5;

fn own() -> Expected {
    Expected::OwnAgents
}

fn security(folder: &Mounted) -> Security {
    let security = Security::from_directory(Some(folder.path()), Role::Agent).unwrap();
    security.with_reload_interval(Duration::ZERO)
}

fn leaf() -> Leaf {
    Leaf::new(agent("a"))
}

/// What the folders of an agent hold, one after the other, while its certificate and then its authority is replaced.
fn history(old: &Authority, new: &Authority) -> Vec<Pem> {
    vec![
        old.issue(&leaf(), &[old]),
        old.issue(&leaf(), &[old]),
        old.issue(&leaf(), &[old, new]),
        new.issue(&leaf(), &[new, old]),
        new.issue(&leaf(), &[new]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_certificates_and_authority_are_replaced() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (served, called) = (history(&old, &new), history(&old, &new));
    let mut server_folder = Mounted::new(&served[0]);
    let mut client_folder = Mounted::new(&called[0]);
    let server = Arc::new(TestServer::start(&security(&server_folder)).await);
    let client = security(&client_folder);
    let mut long = EchoStream::open(server.channel(&client, &own())).await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    let mut progress = Vec::new();
    for _ in 0..CALLERS {
        let (made, watched) = watch::channel(0_u64);
        progress.push(watched);
        let (server, client, stop) = (Arc::clone(&server), client.clone(), Arc::clone(&stop));
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let result = server.echo(&client, &own()).await;
                result.map_err(|status| describe(&status))?;
                made.send_modify(|count| *count += 1);
            }
            Ok::<_, String>(())
        });
    }
    let mut call_id = 0;
    for version in 1..served.len() {
        // A pod here and a pod there: nobody changes at the same moment.
        server_folder.swap(&served[version]);
        advance(&mut progress).await;
        client_folder.swap(&called[version]);
        advance(&mut progress).await;
        call_id += 1;
        long.echo(call_id).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(result) = callers.join_next().await {
        result.unwrap().unwrap();
    }
    // The end is where it should be: the old authority's certificates are of no use any more.
    let outdated = Security::from_pem(old.issue(&leaf(), &[&old, &new]), Role::Agent).unwrap();
    assert!(server.echo(&outdated, &own()).await.is_err());
    long.echo(1000).await.unwrap();
}

/// Waits until every caller has made some more calls.
async fn advance(progress: &mut [watch::Receiver<u64>]) {
    for made in progress {
        let goal = *made.borrow() + CALLS;
        let reached = made.wait_for(|count| *count >= goal);
        // An error: the caller ended, and says why when it is joined.
        let _ = tokio::time::timeout(WAIT, reached).await.unwrap();
    }
}

#[tokio::test]
async fn a_folder_that_becomes_unusable_changes_nothing() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let mut folder = Mounted::new(&old.issue(&leaf(), &[&old]));
    let server = TestServer::start(&security(&folder)).await;
    let client = old.security(&agent("a"));
    let good = new.issue(&leaf(), &[&new]);
    let broken = [
        Pem { key: Vec::new(), ..good.clone() },
        Pem { key: old.issue(&leaf(), &[]).key, ..good.clone() },
        Pem { certificate: b"half".to_vec(), ..good.clone() },
        new.issue(&Leaf::new(agent("b")), &[&new]),
        new.issue(&Leaf::new("operator.boyle.internal"), &[&new]),
    ];
    for pem in &broken {
        folder.swap(pem);
        server.echo(&client, &own()).await.unwrap();
    }
    folder.remove("tls.crt");
    server.echo(&client, &own()).await.unwrap();
    folder.swap(&good);
    server.echo(&new.security(&agent("a")), &own()).await.unwrap();
    server.echo(&client, &own()).await.unwrap_err();
}

#[tokio::test]
async fn given_certificates_can_be_replaced() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let security = old.security(&agent("a"));
    let server = TestServer::start(&security).await;
    let Security::Mtls(mtls) = &security else { panic!("no mTLS") };
    let stranger = new.issue(&Leaf::new(agent("b")), &[&new]);
    let error = mtls.replace(stranger).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("agent.b.ns"));
    server.echo(&old.security(&agent("a")), &own()).await.unwrap();
    mtls.replace(new.issue(&leaf(), &[&new])).await.unwrap();
    server.echo(&new.security(&agent("a")), &own()).await.unwrap();
}
