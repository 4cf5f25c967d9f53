//! A deployment from its creation to its end.

use crate::support::deployment::{self, condition, phase, until_is};
use crate::support::kubelet::Kubelet;
use crate::support::plane::Plane;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_becomes_available_and_stays_so_without_writes() {
    let plane = Plane::start().await;
    let _kubelet = Kubelet::start(&plane.client, plane.machine(), &["node-a", "node-b"]).await;
    let operator = plane.operator("operator-a");
    let wanted =
        deployment::embedded("tiny", json!({"agents": {"min": 2}, "experts": {"copies": 2}}));
    deployment::create(&plane.client, &wanted).await;
    let tiny = until_is(&plane.client, "tiny", "available", |it| phase(it) == "Available").await;
    assert_eq!(condition(&tiny, "Accepted"), "True Valid");
    assert_eq!(condition(&tiny, "Available"), "True Serving");
    operator.stop().await;
}
