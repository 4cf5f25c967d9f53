//! Whether an object is to be written, from what was written and what a watch has shown. Pure.
//!
//! A watch lags behind writes, so what it does not show yet is not missing, and what it shows may be older than what
//! was written. Versions rise, which tells the two apart.

use crate::watch::object::ObjectFacts;
use std::time::Duration;
use tokio::time::Instant;

/// A watch shows a write within a second; one that does not for this long has lost the object.
const LAG_MAX: Duration = Duration::from_secs(20);

/// What is known to be in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    hash: String,
    version: u64,
    sighting: Sighting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sighting {
    /// Written then, and not yet shown by the watch.
    Awaited {
        since: Instant,
    },
    Seen,
}

impl Confirmed {
    /// The API server has just answered a write with this version.
    pub fn written(hash: String, version: u64) -> Self {
        Self { hash, version, sighting: Sighting::Awaited { since: Instant::now() } }
    }
}

/// What to do with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it should be.
    Equal(Confirmed),
    /// It was written; the watch will show it.
    Await,
    Apply,
}

/// Judges one object.
pub fn verdict(
    hash: &str,
    observed: Option<&ObjectFacts>,
    confirmed: Option<&Confirmed>,
    now: Instant,
) -> Verdict {
    let seen = |version| {
        Verdict::Equal(Confirmed { hash: hash.to_owned(), version, sighting: Sighting::Seen })
    };
    let confirmed = confirmed.filter(|confirmed| confirmed.hash == hash);
    match (observed, confirmed) {
        // Applied by an earlier run of the operator.
        (Some(observed), None) if observed.hash.as_deref() == Some(hash) => seen(observed.version),
        (Some(_) | None, None) => Verdict::Apply,
        (Some(observed), Some(confirmed)) if observed.version == confirmed.version => {
            seen(observed.version)
        }
        (observed, Some(confirmed)) => match confirmed.sighting {
            Sighting::Awaited { since }
                if observed.is_none_or(|observed| observed.version < confirmed.version)
                    && now.duration_since(since) < LAG_MAX =>
            {
                Verdict::Await
            }
            // Somebody changed or deleted it.
            Sighting::Awaited { .. } | Sighting::Seen => Verdict::Apply,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Confirmed, LAG_MAX, Sighting, Verdict, verdict};
    use crate::watch::object::ObjectFacts;
    use tokio::time::Instant;

    fn observed(hash: &str, version: u64) -> ObjectFacts {
        ObjectFacts {
            uid: "u".to_owned(),
            hash: Some(hash.to_owned()),
            version,
            replicas: None,
            failure: None,
            renew_after: None,
            serving_group: None,
        }
    }

    #[test]
    fn an_object_of_an_earlier_run_is_trusted() {
        let now = Instant::now();
        assert!(matches!(verdict("a", Some(&observed("a", 3)), None, now), Verdict::Equal(_)));
        assert_eq!(verdict("b", Some(&observed("a", 3)), None, now), Verdict::Apply);
        assert_eq!(verdict("a", None, None, now), Verdict::Apply);
    }

    #[test]
    fn a_watch_that_lags_causes_no_second_write() {
        let written = Confirmed::written("b".to_owned(), 7);
        // Later than the write, so that the longest lag is over at the end.
        let now = Instant::now();
        assert_eq!(verdict("b", None, Some(&written), now), Verdict::Await);
        assert_eq!(verdict("b", Some(&observed("a", 5)), Some(&written), now), Verdict::Await);
        assert!(matches!(
            verdict("b", Some(&observed("b", 7)), Some(&written), now),
            Verdict::Equal(_)
        ));
        assert_eq!(verdict("b", None, Some(&written), now + LAG_MAX), Verdict::Apply);
    }

    #[test]
    fn what_others_changed_or_deleted_is_applied_again() {
        let now = Instant::now();
        let seen = Confirmed { hash: "b".to_owned(), version: 7, sighting: Sighting::Seen };
        assert_eq!(verdict("b", None, Some(&seen), now), Verdict::Apply);
        assert_eq!(verdict("b", Some(&observed("b", 9)), Some(&seen), now), Verdict::Apply);
        let written = Confirmed::written("b".to_owned(), 7);
        assert_eq!(verdict("b", Some(&observed("b", 9)), Some(&written), now), Verdict::Apply);
    }

    #[test]
    fn another_wish_is_applied() {
        let seen = Confirmed { hash: "a".to_owned(), version: 7, sighting: Sighting::Seen };
        let now = Instant::now();
        assert_eq!(verdict("b", Some(&observed("a", 7)), Some(&seen), now), Verdict::Apply);
    }
}
