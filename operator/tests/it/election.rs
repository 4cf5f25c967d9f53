//! At most one replica acts, and another takes over soon.

use crate::support::plane::Plane;
use operator::api::{Writes, client};
use operator::fence::Fence;
use operator::leader::{Elector, LEASE};
use operator::metrics::Metrics;
use std::time::Duration;
use tokio::time::Instant;
use tower::layer::util::Identity;

/// What a busy test machine may add to any time measured here.
const SLACK: Duration = Duration::from_secs(3);

fn candidate(plane: &Plane, name: &str) -> (Elector, Fence) {
    let fence = Fence::default();
    let metrics = Metrics::new().unwrap();
    let client = client(plane.config.clone(), &Identity::new(), Writes::Free, &metrics).unwrap();
    (Elector::new(client, "default", name, fence.clone()), fence)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_leader_is_replaced_only_after_its_fence_has_closed() {
    let plane = Plane::start().await;
    let ((first, first_fence), (second, second_fence)) =
        (candidate(&plane, "first"), candidate(&plane, "second"));
    let lease = first.acquire().await;
    assert!(first_fence.remaining().is_some());
    // The holder renews: nobody else gets it for longer than a lease lasts.
    tokio::select! {
        () = first.keep(lease) => panic!("the holder lost its lease"),
        _ = second.acquire() => panic!("the lease was taken from a holder that renews"),
        () = tokio::time::sleep(LEASE + RENEWALS) => {}
    }
    // Now it is silent.
    let silent = Instant::now();
    second.acquire().await;
    let waited = silent.elapsed();
    assert!(first_fence.remaining().is_none(), "both may write");
    assert!(second_fence.remaining().is_some());
    assert!(waited < LEASE + Duration::from_secs(1) + SLACK, "{waited:?}");
}

const RENEWALS: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let plane = Plane::start().await;
    let ((first, first_fence), (second, _)) =
        (candidate(&plane, "first"), candidate(&plane, "second"));
    first.acquire().await;
    first.release().await;
    assert!(first_fence.remaining().is_none());
    let begin = Instant::now();
    second.acquire().await;
    assert!(begin.elapsed() < LEASE, "{:?}", begin.elapsed());
}
