use super::pki::{Authority, Leaf, agent, deployment};
use proptest::prelude::*;
use proto::tls::{Deployment, Identity, IdentityError, Role};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

fn identity(leaf: &Leaf) -> Result<Identity, IdentityError> {
    let pem = Authority::new("a").issue(leaf, &[]);
    Identity::of_certificate(&CertificateDer::from_pem_slice(&pem.certificate).unwrap())
}

#[test]
fn names_are_read_and_written_alike() {
    let deployment = Deployment::new("deepseek-r1", "prod-7").unwrap();
    let table = [
        ("agent.deepseek-r1.prod-7.boyle.internal", Role::Agent),
        ("router.deepseek-r1.prod-7.boyle.internal", Role::Router),
        ("operator.boyle.internal", Role::Operator),
    ];
    for (text, role) in table {
        let identity = Identity::of(role, deployment.clone());
        assert_eq!(identity.to_string(), text);
        assert_eq!(text.parse(), Ok(identity));
    }
}

#[test]
fn other_names_are_refused() {
    let names = [
        "",
        "boyle.internal",
        "agent.boyle.internal",
        "agent.ns.boyle.internal",
        "agent.a.b.ns.boyle.internal",
        "operator.a.ns.boyle.internal",
        "gateway.a.ns.boyle.internal",
        "agent.a.ns.boyle.internal.",
        "agent.a.ns.boyle.internal.example.com",
        "agent.a.nsboyle.internal",
        "agent.*.ns.boyle.internal",
        "*.boyle.internal",
        "Agent.a.ns.boyle.internal",
        "agent.A.ns.boyle.internal",
        "agent.-a.ns.boyle.internal",
        "agent.a-.ns.boyle.internal",
        "agent..ns.boyle.internal",
        "agent.a.ns.boyle.internal\0",
    ];
    for name in names {
        let result: Result<Identity, _> = name.parse();
        assert!(result.is_err(), "{name:?} is {result:?}");
    }
    let long = "a".repeat(64);
    assert!(Deployment::new(&long, "ns").is_err());
    assert!(Deployment::new("a", &long).unwrap_err().to_string().contains("namespace"));
}

#[test]
fn a_certificate_names_one_of_us() {
    assert_eq!(identity(&Leaf::new(agent("a"))), Ok(agent("a")));
    let with_others = Leaf::new("example.com").with_name(agent("a")).with_name("10.0.0.1.nip");
    assert_eq!(identity(&with_others), Ok(agent("a")));

    let none = identity(&Leaf::new("example.com")).unwrap_err();
    assert!(none.to_string().contains("example.com"), "{none}");
    let two = Leaf::new(agent("a")).with_name(Identity::Operator);
    let two = identity(&two).unwrap_err().to_string();
    assert!(two.contains("agent.a.ns") && two.contains("operator."), "{two}");

    let nameless = Leaf { names: Vec::new(), ..Leaf::new("x") };
    let nameless = nameless.only_for(ExtendedKeyUsagePurpose::ClientAuth);
    assert!(matches!(identity(&nameless), Err(IdentityError::NoName { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn no_bytes_make_reading_a_certificate_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Identity::of_certificate(&CertificateDer::from(bytes)).is_err());
    }

    #[test]
    fn what_parses_is_written_alike(name in "[a-z0-9.-]{0,30}(\\.boyle\\.internal)?") {
        if let Ok(identity) = name.parse::<Identity>() {
            prop_assert_eq!(identity.to_string(), name);
        }
    }

    #[test]
    fn a_damaged_certificate_never_panics(position in any::<prop::sample::Index>(), mask in 1..=255u8) {
        let pem = Authority::new("a").issue(&Leaf::new(Identity::Agent(deployment("a"))), &[]);
        let mut bytes = CertificateDer::from_pem_slice(&pem.certificate).unwrap().to_vec();
        let position = position.index(bytes.len());
        bytes[position] ^= mask;
        let _ = Identity::of_certificate(&CertificateDer::from(bytes));
    }
}
