//! Years of an installation: certificates are renewed, authorities are replaced, pods hear of it late, and at no moment
//! does anybody refuse anybody.

use super::world::{DAY, HOUR, ours, start};
use operator::certificates::{Authorities, Checked, Policy, Situation, Verdict, judge};
use proto::tls::{Deployment, Identity, Role};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const STEP: Duration = Duration::from_secs(10 * 60);

fn policy() -> Policy {
    Policy { authority_life: DAY * 100, leaf_life: DAY * 30, spread: HOUR }
}

#[derive(Clone)]
struct Held {
    certificate: CertificateDer<'static>,
    trusted: Arc<RootCertStore>,
}

/// A Secret and a pod that mounts it.
struct Place {
    identity: Identity,
    /// How long the kubelet takes.
    delay: Duration,
    secret: k8s_openapi::api::core::v1::Secret,
    written_at: SystemTime,
    held: Held,
}

fn hold(secret: &k8s_openapi::api::core::v1::Secret) -> Held {
    let data = secret.data.as_ref().unwrap();
    let mut trusted = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&data["ca.crt"].0) {
        trusted.add(authority.unwrap()).unwrap();
    }
    let certificate = CertificateDer::from_pem_slice(&data["tls.crt"].0).unwrap();
    Held { certificate, trusted: Arc::new(trusted) }
}

/// Whether whoever trusts this would talk to whoever shows that.
fn accepts(holder: &Held, shown: &Place, now: SystemTime) -> bool {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::clone(&holder.trusted);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
    let name = ServerName::try_from(shown.identity.to_string()).unwrap();
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap());
    verifier.verify_server_cert(&shown.held.certificate, &[], &name, &[], now).is_ok()
}

struct Installation {
    authorities: Authorities,
    places: Vec<Place>,
    now: SystemTime,
    /// Changes of the authorities, and certificates that were written.
    steps: u32,
    issued: u32,
    /// The same pairs again need not be looked at again within their life.
    seen: BTreeMap<(Vec<u8>, usize, String), SystemTime>,
}

impl Installation {
    fn new() -> Self {
        let authorities = Authorities::generate(&policy(), start()).unwrap();
        let deployment = Deployment::new("r1", "ns").unwrap();
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let roles = [(Role::Agent, 1), (Role::Agent, 49), (Role::Router, 3), (Role::Operator, 0)];
        let places = roles.map(|(role, delay)| {
            let identity = Identity::of(role, deployment.clone());
            let leaf = authorities.issue(&identity, &policy(), start()).unwrap();
            let secret = ours(leaf.data(&authorities));
            let held = hold(&secret);
            Place { identity, delay: minutes(delay), secret, written_at: start(), held }
        });
        let (now, seen) = (start(), BTreeMap::new());
        Self { authorities, places: places.into(), now, steps: 0, issued: 0, seen }
    }

    /// What the operator does now and then.
    fn operate(&mut self) {
        let mut checked: Vec<Checked> = Vec::new();
        for place in &mut self.places {
            let look = |secret: &_| {
                let authorities = &self.authorities;
                let (wanted, now) = (&place.identity, self.now);
                judge(Some(secret), Situation { secret: "s", wanted, authorities, now }).unwrap()
            };
            let verdict = match look(&place.secret) {
                Verdict::Issue(_) => {
                    let leaf = self.authorities.issue(&place.identity, &policy(), self.now);
                    place.secret = ours(leaf.unwrap().data(&self.authorities));
                    place.written_at = self.now;
                    self.issued += 1;
                    look(&place.secret)
                }
                verdict => verdict,
            };
            match verdict {
                Verdict::Keep(found) => checked.push(found),
                verdict => panic!("it does not settle: {verdict:?}"),
            }
        }
        if let Some(next) = self.authorities.advance(&checked, &policy(), self.now).unwrap() {
            self.authorities = next;
            self.steps += 1;
        }
    }

    fn deliver(&mut self) {
        for place in &mut self.places {
            if place.written_at + place.delay <= self.now {
                place.held = hold(&place.secret);
            }
        }
    }

    fn assert_everybody_talks(&mut self) {
        for (index, holder) in self.places.iter().enumerate() {
            for shown in &self.places {
                let pair = (
                    shown.held.certificate.to_vec(),
                    index,
                    format!("{:?}", holder.held.trusted.subjects()),
                );
                let checked_at = self.seen.entry(pair).or_insert(UNIX_EPOCH);
                if *checked_at + DAY > self.now {
                    continue;
                }
                *checked_at = self.now;
                let days = self.now.duration_since(start()).unwrap().as_secs() / 86_400;
                let ok = accepts(&holder.held, shown, self.now);
                assert!(ok, "day {days}: {} refuses {}", holder.identity, shown.identity);
            }
        }
    }
}

#[test]
fn everybody_trusts_everybody_for_years() {
    let mut installation = Installation::new();
    let mut quiet = 0;
    while installation.now < start() + DAY * 400 {
        let before = (installation.steps, installation.issued);
        installation.operate();
        installation.deliver();
        installation.assert_everybody_talks();
        // Small steps while something happens and for half a day after it.
        quiet = if before == (installation.steps, installation.issued) { quiet + 1 } else { 0 };
        installation.now += if quiet > 72 { HOUR * 6 } else { STEP };
    }
    // Day 66, 133, … of each authority: announce, switch, forget.
    assert_eq!(installation.steps % 3, 0);
    assert!(installation.steps >= 15, "{} steps", installation.steps);
    let each = installation.issued / 4;
    assert!((20..40).contains(&each), "{each} certificates for each in 400 days");
}

#[test]
fn an_authority_signs_only_once_it_is_known_to_all() {
    let first = Authorities::generate(&policy(), start()).unwrap();
    let agent = super::world::agent();
    let check = |authorities: &Authorities, now| {
        let leaf = authorities.issue(&agent, &policy(), now).unwrap();
        Checked::of(&leaf, authorities, agent.clone()).unwrap()
    };
    let advance = |authorities: &Authorities, leaves: &[Checked], now| {
        authorities.advance(leaves, &policy(), now).unwrap()
    };
    let old = check(&first, start());
    assert!(advance(&first, std::slice::from_ref(&old), start() + DAY * 66).is_none());
    let due = start() + DAY * 67;
    let announced = advance(&first, std::slice::from_ref(&old), due).unwrap();
    assert_eq!(announced.signing(), first.signing());

    // Somebody was not told, for days.
    let told = check(&announced, due);
    let late = due + DAY * 3;
    assert!(advance(&announced, &[told.clone(), old.clone()], late).is_none());
    // Everybody was, and some only now.
    let just_told = check(&announced, late);
    assert!(advance(&announced, &[told.clone(), just_told.clone()], late).is_none());
    let switched = advance(&announced, &[told, just_told.clone()], late + HOUR).unwrap();
    assert_ne!(switched.signing(), first.signing());

    // Somebody still shows the old authority's signature.
    let new = check(&switched, late + HOUR);
    let later = late + DAY * 5;
    assert!(advance(&switched, &[new.clone(), just_told], later).is_none());
    assert!(advance(&switched, std::slice::from_ref(&new), late + HOUR).is_none());
    let done = advance(&switched, &[new], later).unwrap();
    assert_eq!(done.bundle(), switched.signing().certificate());
}

#[test]
fn an_operator_that_comes_back_after_years_mends_everything_at_once() {
    let first = Authorities::generate(&policy(), start()).unwrap();
    let agent = super::world::agent();
    let leaf = first.issue(&agent, &policy(), start()).unwrap();
    let stale = [Checked::of(&leaf, &first, agent).unwrap()];
    let now = start() + DAY * 5000;
    let announced = first.advance(&stale, &policy(), now).unwrap().unwrap();
    let switched = announced.advance(&stale, &policy(), now).unwrap().unwrap();
    assert!(!switched.signing().validity().is_due(now));
    let done = switched.advance(&stale, &policy(), now).unwrap().unwrap();
    assert_eq!(done.bundle(), switched.signing().certificate());
}
