//! A deployment from its creation to its end.

use crate::support::ask::{ask, pods};
use crate::support::deployment::{self, NAMESPACE, condition, create, patch, phase, until_is};
use crate::support::kubelet::Kubelet;
use crate::support::plane::Plane;
use crate::support::wait::until;
use crds::ModelDeployment;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use operator::metrics::Metrics;
use serde_json::json;
use std::time::Duration;

/// Long enough for several rounds of every kind of resync but the slowest.
const QUIET: Duration = Duration::from_secs(12);

fn is_available(deployment: &ModelDeployment) -> bool {
    phase(deployment) == "Available"
}

/// Writes and lists so far, but for the election's.
fn costs(metrics: &Metrics) -> (u64, u64) {
    let writes = metrics.requests_where(|verb, kind, _| {
        !matches!(verb, "get" | "list" | "watch") && kind != "leases"
    });
    let lists = metrics.requests_where(|verb, kind, _| verb == "list" && kind != "discovery");
    (writes, lists)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_becomes_available_and_stays_so_without_writes() {
    let plane = Plane::start().await;
    let client = &plane.client;
    let _kubelet = Kubelet::start(client, plane.machine(), &["node-a", "node-b"]).await;
    let operator = plane.operator("operator-a");
    let spec = json!({"agents": {"min": 2}, "experts": {"copies": 2}});
    create(client, &deployment::embedded("tiny", spec)).await;
    let tiny = until_is(client, "tiny", "available", is_available).await;
    assert_eq!(condition(&tiny, "Accepted"), "True Valid");
    assert_eq!(condition(&tiny, "Available"), "True Serving");
    // The moment it says so, a request is answered.
    ask(client, "tiny").await.expect("an answer");
    until_is(client, "tiny", "settled", |it| {
        condition(it, "Progressing") == "False Settled"
            && condition(it, "Degraded") == "False Whole"
            // Two copies on two hosts; the first agent alone, which may answer before the second, has too few.
            && condition(it, "Fits") == "True RoomEnough"
            // The rate of the answer above fades within seconds.
            && it.status.as_ref().and_then(|it| it.tokens_per_second.as_deref()) == Some("0.0")
    })
    .await;
    let before = costs(&operator.metrics);
    assert_eq!(before.1, 11, "one list for each kind");
    tokio::time::sleep(QUIET).await;
    assert_eq!(costs(&operator.metrics), before, "nothing happens, and it writes or lists");
    operator.stop().await;
    // Another operator takes up what is there and repeats nothing.
    let next = plane.operator("operator-b");
    until("the next operator leads", || async {
        let text = next.metrics.render();
        if text.contains("boyle_operator_deployments{phase=\"Available\"} 1") {
            return Ok(());
        }
        Err(text)
    })
    .await;
    assert_eq!(costs(&next.metrics).0, 0, "{}", next.metrics.render());
    deployment::api(client).delete("tiny", &DeleteParams::default()).await.expect("deleted");
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), NAMESPACE);
    until("everything is gone", || async {
        let left = sets.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let pods = pods(client, "tiny", "agent").await;
        if left.items.is_empty() && pods.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_takes_over_and_a_bad_one_takes_nothing_away() {
    let plane = Plane::start().await;
    let client = &plane.client;
    let _kubelet = Kubelet::start(client, plane.machine(), &["node-a"]).await;
    let _operator = plane.operator("operator-a");
    create(client, &deployment::embedded("tiny", json!({}))).await;
    until_is(client, "tiny", "available", is_available).await;
    let first = agents(client).await;
    patch(client, "tiny", json!({"model": {"source": "file:///nowhere/at/all"}})).await;
    let bad = until_is(client, "tiny", "a status that names the folder", |it| {
        let conditions = it.status.iter().flat_map(|status| &status.conditions);
        conditions.clone().any(|it| it.message.contains("/nowhere/at/all"))
    })
    .await;
    assert_eq!(condition(&bad, "Available"), "True Serving");
    ask(client, "tiny").await.expect("the old model answers");
    patch(client, "tiny", json!({"model": {"source": "embedded://tiny-r1"}})).await;
    until_is(client, "tiny", "available again", is_available).await;
    until_agents(client, "the bad group is gone", |now| *now == first).await;
    let repository = env!("CARGO_MANIFEST_DIR").trim_end_matches("operator");
    let folder = format!("file://{repository}models/tiny-r1");
    patch(client, "tiny", json!({"model": {"source": folder}})).await;
    until_agents(client, "only the new group is left", |now| {
        !now.is_empty() && now.iter().all(|agent| !first.contains(agent))
    })
    .await;
    until_is(client, "tiny", "available with the new model", is_available).await;
    ask(client, "tiny").await.expect("the new model answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_settings_change_while_it_serves() {
    let plane = Plane::start().await;
    let client = &plane.client;
    let _kubelet = Kubelet::start(client, plane.machine(), &["node-a", "node-b"]).await;
    let _operator = plane.operator("operator-a");
    create(client, &deployment::embedded("tiny", json!({}))).await;
    until_is(client, "tiny", "available", is_available).await;
    patch(client, "tiny", json!({"agents": {"min": 3}, "router": {"min": 2}})).await;
    let grown = until_is(client, "tiny", "three agents and two routers", |it| {
        let status = it.status.clone().unwrap_or_default();
        is_available(it)
            && status.agents.is_some_and(|agents| agents.ready == 3)
            && status.routers.is_some_and(|routers| routers.ready == 2)
    })
    .await;
    assert_eq!(
        grown.status.unwrap_or_default().agents.map(|it| it.summary),
        Some("3/3".to_owned())
    );
    let uids = uids(client).await;
    patch(client, "tiny", json!({"model": {"contextLength": 256}})).await;
    until("every agent was restarted", || async {
        let now = self::uids(client).await;
        let tiny = deployment::api(client).get("tiny").await.map_err(|error| error.to_string())?;
        let renewed = now.len() == 3 && now.iter().all(|uid| !uids.contains(uid));
        if renewed && is_available(&tiny) { Ok(()) } else { Err(format!("{:?}", tiny.status)) }
    })
    .await;
    patch(client, "tiny", json!({"agents": {"min": 1}, "router": {"min": 1}})).await;
    until_agents(client, "one agent is left", |now| now.len() == 1).await;
    until_is(client, "tiny", "available with one", is_available).await;
    ask(client, "tiny").await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_machine_is_named_and_replaced() {
    let plane = Plane::start().await;
    let client = &plane.client;
    let kubelet = Kubelet::start(client, plane.machine(), &["node-a", "node-b"]).await;
    let _operator = plane.operator("operator-a");
    let spec = json!({"agents": {"min": 2}, "experts": {"copies": 2}, "router": {"min": 2}});
    create(client, &deployment::embedded("tiny", spec)).await;
    until_is(client, "tiny", "available", is_available).await;
    let agents = pods(client, "tiny", "agent").await;
    let (name, pod) = agents.first().expect("an agent");
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).expect("a node");
    kubelet.kill_node(&node).await;
    // The status may say so for less time than it takes to look at it.
    until("the loss is named, with its machine", || async {
        let events: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
        let all = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let notes: Vec<String> = all.items.into_iter().filter_map(|event| event.note).collect();
        let named = |note: &&String| note.contains(name) && note.contains(&format!("on {node}"));
        notes.iter().find(named).map(drop).ok_or_else(|| notes.join("\n"))
    })
    .await;
    until("the lost agent runs elsewhere", || async {
        let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let now = api.get(name).await.map_err(|error| error.to_string())?;
        let moved = now.uid() != pod.uid();
        if moved { Ok(()) } else { Err(format!("{:?}", now.status)) }
    })
    .await;
    until_is(client, "tiny", "whole again", |it| condition(it, "Degraded") == "False Whole").await;
    ask(client, "tiny").await.expect("an answer");
}

async fn agents(client: &kube::Client) -> Vec<String> {
    pods(client, "tiny", "agent").await.into_iter().map(|(name, _)| name).collect()
}

async fn uids(client: &kube::Client) -> Vec<String> {
    let pods = pods(client, "tiny", "agent").await;
    pods.into_iter().filter_map(|(_, pod)| pod.uid()).collect()
}

async fn until_agents(client: &kube::Client, what: &str, holds: impl Fn(&Vec<String>) -> bool) {
    until(what, || async {
        let now = agents(client).await;
        if holds(&now) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}
