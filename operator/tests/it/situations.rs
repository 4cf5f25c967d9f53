//! What cannot work: each situation ends in a condition and an Event that say what is wrong and what to do, and nothing
//! crash-loops.
//!
//! Agents' pods are processes on `node-a`, which read real folders and talk to a real hub; on `paper` nothing runs, and
//! what a kubelet would say of its pods is said by the test.

use crate::support::deployment::{NAMESPACE, merge};
use crate::support::kubelet::{Kubelet, register};
use crate::support::plane::Plane;
use crate::support::wait::until;
use axum::Router;
use axum::http::{StatusCode, Uri};
use crds::ModelDeployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ResourceQuota, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The node that nothing runs on.
const PAPER: &str = "paper";
/// The namespace in which no pod may be.
const TIGHT: &str = "tight";

/// Something that cannot work.
struct Situation {
    name: &'static str,
    spec: Value,
    /// Type, status and reason.
    condition: &'static str,
    /// All of them are in the condition's message and in one Event.
    words: &'static [&'static str],
    /// What the kubelet of the paper node says of the agent's container: reason and message.
    kubelet: Option<(&'static str, &'static str)>,
}

fn situation(
    name: &'static str,
    spec: Value,
    condition: &'static str,
    words: &'static [&'static str],
) -> Situation {
    Situation { name, spec, condition, words, kubelet: None }
}

impl Situation {
    /// Its agents run on the paper node, whose kubelet says this.
    fn on_paper(mut self, reason: &'static str, message: &'static str) -> Self {
        self.spec["agents"]["template"] = json!({"spec": {
            "nodeSelector": {"kubernetes.io/hostname": PAPER},
            "tolerations": [{"operator": "Exists"}],
        }});
        self.kubelet = Some((reason, message));
        self
    }

    fn namespace(&self) -> &'static str {
        if self.name == "quota" { TIGHT } else { NAMESPACE }
    }

    /// Not as a type: one of them is another version's.
    fn deployment(&self) -> DynamicObject {
        let mut spec = json!({"model": {"source": "embedded://tiny-r1"}, "agents": {"min": 1}});
        merge(&mut spec, self.spec.clone());
        let resource = ApiResource::erase::<ModelDeployment>(&());
        let deployment = DynamicObject::new(self.name, &resource).within(self.namespace());
        deployment.data(json!({"spec": spec}))
    }
}

/// What kubelets, schedulers and quotas say.
fn around_the_pod() -> Vec<Situation> {
    let hub = json!({"source": "hf://boyle/tiny", "secretName": "hub-token"});
    vec![
        situation(
            "secret",
            json!({"model": hub}),
            "Accepted False SecretNotFound",
            &["spec.model.secretName", "hub-token", "create"],
        )
        .on_paper("CreateContainerConfigError", r#"secret "hub-token" not found"#),
        situation(
            "secret-key",
            json!({"model": hub}),
            "Accepted False SecretKeyMissing",
            &["spec.model.secretName", "HF_TOKEN", "add"],
        )
        .on_paper(
            "CreateContainerConfigError",
            "couldn't find key HF_TOKEN in Secret default/hub-token",
        ),
        situation(
            "image",
            json!({"image": "registry.example/none:1"}),
            "Degraded True ImagePullFailed",
            &["spec.image", "registry.example/none:1", "write"],
        )
        .on_paper("ImagePullBackOff", "registry.example/none:1: not found"),
        situation(
            "storage",
            json!({}),
            "Degraded True StorageFull",
            &["no space left on device", "spec.agents.template"],
        )
        .on_paper("CreateContainerError", "write /var/lib/boyle: no space left on device"),
        situation(
            "claim",
            json!({"model": {"source": "pvc://absent/r1"}}),
            "Accepted False ClaimNotFound",
            &["spec.model.source", "absent", "create"],
        ),
        situation(
            "room",
            json!({"agents": {"resources": {"limits": {"memory": "1Ti"}}}}),
            "Fits False Unschedulable",
            &["Insufficient memory", "spec.agents.resources"],
        ),
        situation(
            "place",
            json!({"agents": {"template": {"spec": {"nodeSelector": {"gpu": "none"}}}}}),
            "Fits False Unschedulable",
            &["node affinity/selector", "spec.agents.template"],
        ),
        situation("quota", json!({}), "Fits False QuotaExceeded", &["quota", "pods=0", "raise"]),
        situation("taken", json!({}), "Accepted False NameTaken", &["Service", "taken", "delete"]),
        situation(
            "overlay",
            json!({"agents": {"template": {"spec": {"nodeSelecter": {"gpu": "h200"}}}}}),
            "Accepted False InvalidSpec",
            &["spec.agents.template.spec.nodeSelecter", "h200"],
        ),
        situation(
            "version",
            json!({"model": {"precision": "fp4"}}),
            "Accepted False UnknownVersion",
            &["spec", "fp4", "install the operator that belongs to the definition"],
        ),
    ]
}

/// What agents say of the model, and planners of the room.
fn around_the_model(folder: &Path, hub: &str) -> Vec<Situation> {
    let at = |name: &str| json!({"model": {"source": format!("file://{}", folder.join(name).display())}});
    let from = |name: &str, endpoint: &str| json!({"model": {"source": format!("hf://{name}"), "endpoint": endpoint}});
    vec![
        situation(
            "folder",
            at("nothing"),
            "Accepted False ModelNotFound",
            &["spec.model.source", "nothing"],
        ),
        situation(
            "embedded",
            json!({"model": {"source": "embedded://other"}}),
            "Accepted False ModelNotFound",
            &["spec.model.source", "embedded://other", "tiny-r1"],
        ),
        situation(
            "architecture",
            at("architecture"),
            "Accepted False ArchitectureUnknown",
            &["spec.model.source", "LevitatorForCausalLM"],
        ),
        situation(
            "shard",
            at("shard"),
            "Accepted False ModelCorrupt",
            &["spec.model.source", "model.safetensors"],
        ),
        situation(
            "token",
            from("closed/model", hub),
            "Accepted False AccessDenied",
            &["spec.model.secretName", "HF_TOKEN"],
        ),
        situation(
            "hub",
            from("open/nothing", hub),
            "Accepted False ModelNotFound",
            &["spec.model.source", "open/nothing"],
        ),
        situation(
            "endpoint",
            from("open/model", "http://127.0.0.1:9"),
            "Accepted False SourceUnreachable",
            &["spec.model.endpoint", "127.0.0.1:9"],
        ),
        situation(
            "context",
            json!({"model": {"contextLength": 1_000_000}}),
            "Accepted False ContextTooLong",
            &["spec.model.contextLength", "1000000"],
        ),
        situation(
            "memory",
            json!({"agents": {"resources": {"limits": {"memory": "8Mi"}}}}),
            "Fits False MemoryTooSmall",
            &["spec.agents"],
        ),
        situation(
            "hosts",
            json!({"agents": {"min": 2}, "experts": {"copies": 2}}),
            "Fits False HostsTooFew",
            &["spec.experts.copies"],
        ),
    ]
}

/// A copy of the model inside the program with something wrong.
fn broken(folder: &Path, name: &str, wrong: impl Fn(&Path)) {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-r1");
    let target = folder.join(name);
    std::fs::create_dir_all(&target).unwrap();
    for entry in std::fs::read_dir(source).unwrap() {
        let file = entry.unwrap().path();
        if file.is_file() {
            std::fs::copy(&file, target.join(file.file_name().unwrap())).unwrap();
        }
    }
    wrong(&target);
}

fn break_models(folder: &Path) {
    broken(folder, "architecture", |model| {
        let file = model.join("config.json");
        let mut config: Value =
            serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        config["architectures"] = json!(["LevitatorForCausalLM"]);
        config["model_type"] = "levitator".into();
        std::fs::write(file, config.to_string()).unwrap();
    });
    broken(folder, "shard", |model| {
        let shard = model.join("model.safetensors");
        let bytes = std::fs::read(&shard).unwrap();
        std::fs::write(shard, &bytes[..bytes.len() / 2]).unwrap();
    });
}

/// A hub that knows no model and shows the closed ones to nobody.
async fn hub() -> String {
    let answer = |uri: Uri| async move {
        if uri.path().contains("closed/") {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::NOT_FOUND
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    format!("http://{address}")
}

async fn prepare(client: &Client) {
    register(client, PAPER).await;
    let nodes: Api<Node> = Api::all(client.clone());
    let taint = json!({"spec": {"taints": [{"key": "paper", "effect": "NoSchedule"}]}});
    nodes.patch(PAPER, &PatchParams::default(), &Patch::Strategic(&taint)).await.unwrap();
    later_definition(client).await;
    let post = PostParams::default();
    let namespace = json!({"metadata": {"name": TIGHT}});
    let namespace: Namespace = serde_json::from_value(namespace).unwrap();
    Api::all(client.clone()).create(&post, &namespace).await.unwrap();
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).unwrap();
    Api::namespaced(client.clone(), TIGHT).create(&post, &quota).await.unwrap();
    let service = json!({"metadata": {"name": "taken"}, "spec": {"ports": [{"port": 80}]}});
    let service: Service = serde_json::from_value(service).unwrap();
    Api::namespaced(client.clone(), NAMESPACE).create(&post, &service).await.unwrap();
}

/// The definition of a version that knows one more precision.
async fn later_definition(client: &Client) {
    let resource = ApiResource::erase::<CustomResourceDefinition>(&());
    let definitions: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let name = "modeldeployments.boyle.dev";
    let mut definition = definitions.get(name).await.unwrap();
    let precision = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/model/properties/precision/enum";
    let words = definition.data.pointer_mut(precision).and_then(Value::as_array_mut).unwrap();
    words.push("fp4".into());
    definitions.replace(name, &PostParams::default(), &definition).await.expect("it is taken");
}

/// Says of a paper pod's container what its kubelet would, until it is dropped.
async fn paper_kubelet(client: Client, name: String, reason: String, message: String) {
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let agents = ListParams::default()
        .labels(&format!("boyle.dev/model-deployment={name},app.kubernetes.io/component=agent"));
    loop {
        for pod in pods.list(&agents).await.into_iter().flat_map(|list| list.items) {
            let scheduled = pod.spec.as_ref().is_some_and(|it| it.node_name.is_some());
            let said = pod.status.as_ref().is_some_and(|it| it.container_statuses.is_some());
            if scheduled && !said {
                let image = pod.spec.as_ref().and_then(|it| it.containers[0].image.clone());
                let status = json!({"status": {"phase": "Pending", "containerStatuses": [{
                    "name": "agent", "image": image, "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": reason, "message": message}},
                }]}});
                let name = pod.name_any();
                let _ =
                    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits for the condition, then for the Event.
async fn told(client: &Client, situation: &Situation) {
    let name = situation.name;
    let resource = ApiResource::erase::<ModelDeployment>(&());
    let deployments: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), situation.namespace(), &resource);
    until(&format!("{name}: {}", situation.condition), || async {
        let deployment = deployments.get_status(name).await.map_err(|error| error.to_string())?;
        let conditions = deployment.data["status"]["conditions"].clone();
        let conditions: Vec<Condition> = serde_json::from_value(conditions).unwrap_or_default();
        let seen: Vec<String> = conditions
            .iter()
            .map(|it| format!("{} {} {}: {}", it.type_, it.status, it.reason, it.message))
            .collect();
        let right = |line: &&String| {
            line.starts_with(situation.condition)
                && situation.words.iter().all(|word| line.contains(word))
        };
        seen.iter().find(right).map(drop).ok_or_else(|| seen.join("\n"))
    })
    .await;
    let events: Api<Event> = Api::namespaced(client.clone(), situation.namespace());
    until(&format!("{name}: an Event"), || async {
        let all = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let ours = all.items.into_iter().filter(|event| {
            let regarding = event.regarding.as_ref();
            regarding.is_some_and(|it| {
                it.name.as_deref() == Some(name) && it.kind.as_deref() == Some("ModelDeployment")
            })
        });
        let notes: Vec<String> = ours.filter_map(|event| event.note).collect();
        let right = |note: &&String| situation.words.iter().all(|word| note.contains(word));
        notes.iter().find(right).map(drop).ok_or_else(|| notes.join("\n"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_said_and_does_not_crash_loop() {
    let plane = Plane::start().await;
    let client = &plane.client;
    break_models(plane.folder.path());
    let mut situations = around_the_pod();
    situations.extend(around_the_model(plane.folder.path(), &hub().await));
    assert!(situations.len() >= 15);
    let kubelet = Kubelet::start(client, plane.machine(), &["node-a"]).await;
    prepare(client).await;
    let operator = plane.operator("operator-a");
    let mut papers = Vec::new();
    for situation in &situations {
        let resource = ApiResource::erase::<ModelDeployment>(&());
        let deployments: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), situation.namespace(), &resource);
        let deployment = situation.deployment();
        deployments.create(&PostParams::default(), &deployment).await.expect("it is taken");
        if let Some((reason, message)) = situation.kubelet {
            let (name, reason, message) =
                (situation.name.to_owned(), reason.to_owned(), message.to_owned());
            papers.push(tokio::spawn(paper_kubelet(client.clone(), name, reason, message)));
        }
    }
    for situation in &situations {
        told(client, situation).await;
        println!("{}: {}", situation.name, situation.condition);
    }
    let pods: Api<Pod> = Api::all(client.clone());
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        let statuses = pod.status.iter().flat_map(|it| it.container_statuses.iter().flatten());
        let restarts = statuses.map(|it| it.restart_count).max().unwrap_or(0);
        assert!(restarts == 0, "{} was restarted {restarts} times", pod.name_any());
    }
    papers.iter().for_each(tokio::task::JoinHandle::abort);
    operator.stop().await;
    drop(kubelet);
}
