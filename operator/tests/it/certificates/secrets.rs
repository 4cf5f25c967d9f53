use super::world::{
    DAY, agent, authorities, cert_managers, describe, issue, look, ours, start, strangers,
};
use k8s_openapi::ByteString;
use operator::certificates::{Cause, Verdict};
use proto::tls::{Deployment, Identity};

const KEYS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

fn other() -> Identity {
    Identity::Agent(Deployment::new("other", "ns").unwrap())
}

fn router() -> Identity {
    Identity::Router(Deployment::new("r1", "ns").unwrap())
}

#[test]
fn a_good_secret_is_kept_for_two_thirds_of_its_life() {
    let authorities = authorities();
    let secret = ours(issue(&authorities, &agent(), start()));
    let at = |days: u32| look(Some(&secret), &authorities, start() + DAY * days).unwrap();
    for days in [0, 1, 30, 59] {
        let Verdict::Keep(checked) = at(days) else { panic!("after {days} days: {:?}", at(days)) };
        assert_eq!(*checked.identity(), agent());
        assert_eq!(checked.validity().issued_at(), start());
        assert_eq!(checked.validity().not_after, start() + DAY * 90);
    }
    for days in [60, 61, 90, 1000] {
        assert_eq!(at(days), Verdict::Issue(Cause::Due), "after {days} days");
    }
    // Whoever made it had a clock that was ahead.
    let before = look(Some(&secret), &authorities, start() - DAY).unwrap();
    assert_eq!(before, Verdict::Issue(Cause::Due));
}

#[test]
fn what_is_missing_or_broken_is_issued_again() {
    let authorities = authorities();
    assert_eq!(look(None, &authorities, start()).unwrap(), Verdict::Issue(Cause::Missing));
    let broken = |data| match look(Some(&ours(data)), &authorities, start()).unwrap() {
        Verdict::Issue(Cause::Broken { reason }) => reason,
        verdict => panic!("{verdict:?}"),
    };
    let good = issue(&authorities, &agent(), start());
    for key in KEYS {
        let mut data = good.clone();
        data.remove(key);
        assert!(broken(data.clone()).contains(key));
        data.insert(key.to_owned(), ByteString(Vec::new()));
        assert!(broken(data.clone()).contains(key));
        data.insert(key.to_owned(), ByteString(b"half of it".to_vec()));
        assert!(broken(data.clone()).contains(key));
        data.insert(key.to_owned(), ByteString(vec![0xff; 100]));
        assert!(broken(data).contains(key));
    }
    let mut mixed = good.clone();
    mixed.insert("tls.key".to_owned(), issue(&authorities, &agent(), start())["tls.key"].clone());
    assert!(broken(mixed).contains("does not belong"));
    assert!(broken(Default::default()).contains("tls.crt"));
}

#[test]
fn what_is_for_another_or_by_another_is_issued_again() {
    let authorities = authorities();
    for found in [other(), router(), Identity::Operator] {
        let secret = ours(issue(&authorities, &found, start()));
        let verdict = look(Some(&secret), &authorities, start()).unwrap();
        assert_eq!(verdict, Verdict::Issue(Cause::OtherIdentity { found }));
    }
    let secret = ours(issue(&authorities, &agent(), start()));
    let others = super::world::authorities();
    let verdict = look(Some(&secret), &others, start()).unwrap();
    assert_eq!(verdict, Verdict::Issue(Cause::OtherAuthorities));
    // The right bundle beside a certificate of somebody else.
    let mut data = issue(&authorities, &agent(), start());
    data.insert("ca.crt".to_owned(), issue(&others, &agent(), start())["ca.crt"].clone());
    let verdict = look(Some(&ours(data)), &others, start()).unwrap();
    assert_eq!(verdict, Verdict::Issue(Cause::OtherAuthorities));
    // One more is trusted now.
    let more = authorities.replace(&super::world::policy(), start()).unwrap().unwrap();
    let verdict = look(Some(&secret), &more, start()).unwrap();
    assert_eq!(verdict, Verdict::Issue(Cause::OtherAuthorities));
}

#[test]
fn a_strangers_secret_is_left_alone() {
    let authorities = authorities();
    let secret = strangers(issue(&authorities, &agent(), start()));
    let text = describe(&look(Some(&secret), &authorities, start()).unwrap_err());
    assert!(text.contains("ns/r1-agent-tls") && text.contains("delete or rename"), "{text}");
}

#[test]
fn cert_managers_secret_is_used_as_it_is() {
    let (authorities, issuer) = (authorities(), authorities());
    let secret = cert_managers(issue(&issuer, &agent(), start()));
    for now in [start(), start() + DAY * 80] {
        let verdict = look(Some(&secret), &authorities, now).unwrap();
        assert!(matches!(verdict, Verdict::CertManager(_)), "{verdict:?}");
    }
    let refused = |data| {
        let text = describe(&look(Some(&cert_managers(data)), &authorities, start()).unwrap_err());
        assert!(text.contains("ns/r1-agent-tls") && text.contains("r1-agents"), "{text}");
        text
    };
    let good = issue(&issuer, &agent(), start());
    for key in KEYS {
        let mut data = good.clone();
        data.remove(key);
        let text = refused(data.clone());
        assert!(text.contains(key) && text.contains("not filled"), "{text}");
        data.insert(key.to_owned(), ByteString(b"?".to_vec()));
        assert!(refused(data).contains(key));
    }
    for found in [other(), router()] {
        let text = refused(issue(&issuer, &found, start()));
        assert!(text.contains(&format!("dnsNames entry {}", agent())), "{text}");
        assert!(text.contains(&found.to_string()), "{text}");
    }
}
