//! A kubelet for nodes that are not there: it runs pods as processes and reports on them.

use super::pod::{self, Machine, Order};
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher::Config};
use kube::{Client, ResourceExt};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch as channel;
use tokio::task::JoinHandle;

/// Half of what makes the control plane suspicious.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Nodes and the pods on them.
pub struct Kubelet {
    client: Client,
    state: Arc<Mutex<State>>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    dead: BTreeSet<String>,
    /// By uid.
    pods: BTreeMap<String, Running>,
}

struct Running {
    node: String,
    name: String,
    orders: channel::Sender<Order>,
}

impl Kubelet {
    /// Registers nodes and runs whatever is bound to them, until dropped.
    pub async fn start(client: &Client, machine: Machine, nodes: &[&str]) -> Self {
        for node in nodes {
            register(client, node).await;
        }
        let state = Arc::new(Mutex::new(State::default()));
        let names: Vec<String> = nodes.iter().map(|node| (*node).to_owned()).collect();
        let beats = tokio::spawn(beat(client.clone(), names.clone(), Arc::clone(&state)));
        let runs = tokio::spawn(run(client.clone(), machine, names, Arc::clone(&state)));
        Self { client: client.clone(), state, tasks: vec![beats, runs] }
    }

    /// The machine is gone: its processes end at once, and nobody reports any more.
    pub async fn kill_node(&self, node: &str) {
        {
            let mut state = self.state.lock().unwrap();
            state.dead.insert(node.to_owned());
            for pod in state.pods.values().filter(|pod| pod.node == node) {
                pod.orders.send_replace(Order::Die);
            }
        }
        set_ready(&self.client, node, "Unknown").await;
    }

    /// Kills one pod's process without telling anybody; the machine stays.
    pub fn forget_pod(&self, name: &str) {
        let state = self.state.lock().unwrap();
        for pod in state.pods.values().filter(|pod| pod.name == name) {
            pod.orders.send_replace(Order::Die);
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        for pod in self.state.lock().unwrap().pods.values() {
            pod.orders.send_replace(Order::Die);
        }
    }
}

pub async fn register(client: &Client, name: &str) {
    let api: Api<Node> = Api::all(client.clone());
    let node: Node = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
    }))
    .unwrap();
    api.create(&PostParams::default(), &node).await.expect("the node is created");
    set_ready(client, name, "True").await;
}

async fn set_ready(client: &Client, name: &str, ready: &str) {
    let api: Api<Node> = Api::all(client.clone());
    let resources = json!({"cpu": "64", "memory": "64Gi", "pods": "250"});
    let now = Timestamp::now();
    let status = json!({"status": {
        "allocatable": resources, "capacity": resources,
        "conditions": [{"type": "Ready", "status": ready, "reason": "Hollow", "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now}],
    }});
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&status))
        .await
        .expect("the node's status is taken");
}

async fn beat(client: Client, nodes: Vec<String>, state: Arc<Mutex<State>>) {
    let api: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    loop {
        for node in &nodes {
            if state.lock().unwrap().dead.contains(node) {
                continue;
            }
            let now = Timestamp::now();
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": node, "namespace": "kube-node-lease"},
                "spec": {"holderIdentity": node, "leaseDurationSeconds": 40,
                    "renewTime": format!("{now:.6}")},
            });
            let parameters = PatchParams::apply("hollow-kubelet").force();
            let _ = api.patch(node, &parameters, &Patch::Apply(&lease)).await;
        }
        tokio::time::sleep(HEARTBEAT).await;
    }
}

async fn run(client: Client, machine: Machine, nodes: Vec<String>, state: Arc<Mutex<State>>) {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut events = std::pin::pin!(watcher::watcher(pods, Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                take(&client, &machine, &nodes, (&state, pod));
            }
            Ok(Event::Delete(pod)) => {
                let uid = pod.uid().unwrap_or_default();
                if let Some(running) = state.lock().unwrap().pods.remove(&uid) {
                    running.orders.send_replace(Order::Die);
                }
            }
            Ok(Event::Init | Event::InitDone) | Err(_) => {}
        }
    }
}

fn take(
    client: &Client,
    machine: &Machine,
    nodes: &[String],
    (state, pod): (&Arc<Mutex<State>>, Pod),
) {
    let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { return };
    let mut state = state.lock().unwrap();
    if !nodes.contains(&node) || state.dead.contains(&node) {
        return;
    }
    let uid = pod.uid().unwrap_or_default();
    let ends = pod.metadata.deletion_timestamp.is_some();
    if let Some(running) = state.pods.get(&uid) {
        if ends && *running.orders.borrow() == Order::Run {
            running.orders.send_replace(Order::End);
        }
        return;
    }
    let orders = channel::Sender::new(if ends { Order::End } else { Order::Run });
    let task = pod::run(client.clone(), machine.clone(), pod.clone(), orders.subscribe());
    tokio::spawn(task);
    state.pods.insert(uid, Running { node, name: pod.name_any(), orders });
}
