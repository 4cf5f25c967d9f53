//! A whole life of a deployment, with a request of the operator's that goes wrong and the operator's own death right
//! after it: the end of every chapter is the same.

use crate::support::ask::{ask, pods};
use crate::support::deployment::{self, NAMESPACE, condition, create, patch, phase, until_is};
use crate::support::faults::{Fault, Faults};
use crate::support::kubelet::Kubelet;
use crate::support::plane::{Plane, Running, settings};
use crate::support::wait::until;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, ResourceExt};
use operator::run::Operator;
use operator::watch::Kind;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const FAULTS: [Fault; 6] = [
    Fault::Lost,
    Fault::Unanswered,
    Fault::Refused(409),
    Fault::Refused(410),
    Fault::Refused(429),
    Fault::Refused(500),
];
/// Lives in the usual run; `BOYLE_FAULTS=all` lives one for every request, `BOYLE_FAULTS=17` the one of request 17.
const SAMPLE: usize = 3;
/// Between two looks whether the fault has been met.
const LOOK: Duration = Duration::from_millis(5);

/// A replica as its pod runs it: when it dies, the next one has its name.
fn operator(plane: &Plane, faults: &Faults) -> Running {
    let operator = Operator::new(settings("operator"), plane.config.clone(), faults);
    Running::start(operator.expect("an operator"))
}

/// Kinds and names of everything that belongs to the deployment.
async fn made(plane: &Plane) -> BTreeSet<String> {
    let ours = ListParams::default().labels("boyle.dev/model-deployment=tiny");
    let mut all = BTreeSet::new();
    for kind in Kind::APPLIED {
        let api: Api<DynamicObject> =
            Api::namespaced_with(plane.client.clone(), NAMESPACE, &kind.resource());
        let list = api.list(&ours).await.expect("a list");
        all.extend(list.iter().map(|object| format!("{kind:?} {}", object.name_any())));
    }
    all
}

/// What everything comes to at the end of each chapter. Lives follow one another on one control plane, whose garbage
/// collector takes half a minute to know the resource.
async fn live(plane: &Plane, number: usize) -> Vec<BTreeSet<String>> {
    let client = &plane.client;
    let machines = ["a", "b"].map(|letter| format!("node-{number}-{letter}"));
    let names = machines.each_ref().map(String::as_str);
    let kubelet = Kubelet::start(client, plane.machine(), &names).await;
    let mut chapters = Vec::new();

    let spec = json!({"agents": {"min": 2}, "experts": {"copies": 2}});
    create(client, &deployment::embedded("tiny", spec)).await;
    whole(plane, 2).await;
    chapters.push(made(plane).await);

    patch(client, "tiny", json!({"agents": {"min": 3}, "router": {"min": 2}})).await;
    whole(plane, 3).await;
    chapters.push(made(plane).await);

    let before = agents(plane).await;
    patch(client, "tiny", json!({"model": {"contextLength": 256}})).await;
    until("every agent was restarted", || async {
        let now = agents(plane).await;
        if now.is_disjoint(&before) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    whole(plane, 3).await;
    chapters.push(made(plane).await);

    let there = pods(client, "tiny", "agent").await;
    let node = there[0].1.spec.as_ref().and_then(|it| it.node_name.clone()).expect("a node");
    let lost: BTreeSet<String> = there
        .iter()
        .filter(|(_, pod)| pod.spec.as_ref().and_then(|it| it.node_name.as_ref()) == Some(&node))
        .filter_map(|(_, pod)| pod.uid())
        .collect();
    kubelet.kill_node(&node).await;
    until("the lost agents run elsewhere", || async {
        let now = agents(plane).await;
        if now.is_disjoint(&lost) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    whole(plane, 3).await;
    ask(client, "tiny").await.expect("an answer");
    chapters.push(made(plane).await);

    deployment::api(client).delete("tiny", &DeleteParams::default()).await.expect("deleted");
    until("nothing is left", || async {
        let (objects, agents) = (made(plane).await, agents(plane).await);
        let gone = objects.is_empty() && agents.is_empty();
        if gone { Ok(()) } else { Err(format!("{objects:?}, agents {agents:?}")) }
    })
    .await;
    let nodes: Api<Node> = Api::all(client.clone());
    for machine in &machines {
        nodes.delete(machine, &DeleteParams::default()).await.expect("the node is forgotten");
    }
    chapters
}

async fn agents(plane: &Plane) -> BTreeSet<String> {
    pods(&plane.client, "tiny", "agent").await.iter().filter_map(|(_, pod)| pod.uid()).collect()
}

async fn whole(plane: &Plane, agents: u32) {
    until_is(&plane.client, "tiny", &format!("whole with {agents} agents"), |it| {
        let counted = it.status.as_ref().and_then(|status| status.agents.as_ref());
        phase(it) == "Available"
            && it.status.as_ref().and_then(|status| status.observed_generation)
                == it.metadata.generation
            && counted.is_some_and(|counted| counted.ready == agents && counted.desired == agents)
            && condition(it, "Degraded") == "False Whole"
    })
    .await;
}

/// The same life with an operator that dies right after its request `number` went wrong; `None` when it sent fewer.
async fn live_with(plane: &Plane, number: usize, fault: Fault) -> Option<Vec<BTreeSet<String>>> {
    let faults = Faults::at(number, fault);
    let victim = operator(plane, &faults);
    let successor = async {
        while !faults.fired() {
            tokio::time::sleep(LOOK).await;
        }
        victim.kill().await;
        operator(plane, &Faults::default())
    };
    tokio::pin!(successor);
    let mut running = None;
    let life = live(plane, number + 1);
    tokio::pin!(life);
    let chapters = loop {
        tokio::select! {
            next = &mut successor, if running.is_none() => running = Some(next),
            chapters = &mut life => break chapters,
        }
    };
    running?.stop().await;
    Some(chapters)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_dies_at_a_fault_leaves_nothing_that_the_next_one_cannot_go_on_with() {
    let plane = Plane::start().await;
    let good = Faults::default();
    let reference = operator(&plane, &good);
    let wanted = live(&plane, 0).await;
    reference.stop().await;
    let requests = good.seen().len();
    let step = (requests / SAMPLE).max(1);
    let numbers: Vec<usize> = match std::env::var("BOYLE_FAULTS").as_deref() {
        Ok("all") => (0..requests).collect(),
        Ok(number) => vec![number.parse().expect("all, or a request's number")],
        Err(_) => (step / 2..requests).step_by(step).collect(),
    };
    let mut met = 0;
    for number in numbers {
        let fault = FAULTS[number % FAULTS.len()];
        println!("request {number} of {requests} with {fault:?}");
        // Timing decides how often some requests are sent, so a life may end with fewer.
        let Some(chapters) = live_with(&plane, number, fault).await else { continue };
        assert_eq!(chapters, wanted, "request {number} with {fault:?}");
        met += 1;
    }
    assert!(met > 0, "no fault was met");
}
