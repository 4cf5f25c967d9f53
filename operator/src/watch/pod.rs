//! A pod → what the substrate must know of it. Pure.

use super::cache::{Entry, Owner};
use super::quantity::bytes;
use crate::key::{
    COMPONENT_LABEL, DEPLOYMENT_LABEL, DeploymentKey, GROUP_LABEL, REVISION_ANNOTATION,
};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodSpec, PodStatus};

/// Text of a failed container that is worth showing; its log holds the rest.
const CAUSE_CHARS_MAX: usize = 400;
/// A container that ended once was killed, or met something that is over by now.
const LOOP_EXITS_LEAST: u32 = 2;

/// A pod of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    pub uid: String,
    pub component: Component,
    /// Of an agent: its group.
    pub group: String,
    /// Of an agent: what it was started with.
    pub revision: String,
    pub address: Option<String>,
    pub node: Option<String>,
    pub memory_limit_bytes: Option<u64>,
    pub stage: Stage,
    pub trouble: Option<Trouble>,
}

/// What a pod runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    Agent,
    Router,
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its container does not run (yet, or at the moment).
    Waiting,
    /// Its container runs and its readiness probe does not pass.
    Running,
    Ready,
    /// It was deleted or evicted and ends within its grace period.
    Ending,
    /// It ended and will not come back under this uid.
    Ended,
}

/// Why a pod does not get on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No node takes it; the scheduler says why.
    Unschedulable { message: String },
    /// Its image cannot be had.
    Image { image: String, message: String },
    /// A Secret, ConfigMap or volume that it needs is missing or wrong.
    Configuration { message: String },
    /// Its container keeps ending.
    Crashes { image: String, exits: u32, cause: String },
}

/// Parses a pod; `None` for one that is not a deployment's.
pub fn parse(pod: Pod) -> Option<Entry<PodFacts>> {
    let labels = pod.metadata.labels.unwrap_or_default();
    let component = match labels.get(COMPONENT_LABEL)?.as_str() {
        "agent" => Component::Agent,
        "router" => Component::Router,
        _ => return None,
    };
    let key = DeploymentKey::new(pod.metadata.namespace.as_deref()?, labels.get(DEPLOYMENT_LABEL)?);
    let annotations = pod.metadata.annotations.unwrap_or_default();
    let spec = pod.spec.unwrap_or_default();
    let status = pod.status.unwrap_or_default();
    let container = main_container(&status);
    let ending = pod.metadata.deletion_timestamp.is_some();
    let facts = PodFacts {
        uid: pod.metadata.uid.unwrap_or_default(),
        component,
        group: labels.get(GROUP_LABEL).cloned().unwrap_or_default(),
        revision: annotations.get(REVISION_ANNOTATION).cloned().unwrap_or_default(),
        address: status.pod_ip.clone().filter(|address| !address.is_empty()),
        memory_limit_bytes: memory_limit(&spec),
        stage: if ending { Stage::Ending } else { stage(&status, container) },
        trouble: trouble(&status, container),
        node: spec.node_name,
    };
    Some(Entry { owner: Owner::Deployment(key), name: pod.metadata.name?, facts })
}

fn main_container(status: &PodStatus) -> Option<&ContainerStatus> {
    status
        .container_statuses
        .as_ref()?
        .iter()
        .find(|it| matches!(it.name.as_str(), "agent" | "router"))
}

fn memory_limit(spec: &PodSpec) -> Option<u64> {
    let container =
        spec.containers.iter().find(|it| matches!(it.name.as_str(), "agent" | "router"))?;
    let limit = container.resources.as_ref()?.limits.as_ref()?.get("memory")?;
    bytes(&limit.0)
}

fn stage(status: &PodStatus, container: Option<&ContainerStatus>) -> Stage {
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return Stage::Ended;
    }
    let running = container
        .and_then(|container| container.state.as_ref())
        .is_some_and(|state| state.running.is_some());
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    match (running, ready) {
        (true, true) => Stage::Ready,
        (true, false) => Stage::Running,
        (false, _) => Stage::Waiting,
    }
}

fn trouble(status: &PodStatus, container: Option<&ContainerStatus>) -> Option<Trouble> {
    let scheduled = status.conditions.iter().flatten().find(|it| it.type_ == "PodScheduled");
    if let Some(condition) = scheduled.filter(|it| it.status == "False") {
        return Some(Trouble::Unschedulable {
            message: condition.message.clone().unwrap_or_default(),
        });
    }
    if status.phase.as_deref() == Some("Failed") {
        let reason = status.reason.as_deref().unwrap_or("Failed");
        let message = status.message.as_deref().unwrap_or_default();
        return Some(Trouble::Crashes {
            image: container.map(|it| it.image.clone()).unwrap_or_default(),
            exits: 1,
            cause: format!("{reason} {message}"),
        });
    }
    let container = container?;
    let state = container.state.as_ref()?;
    if state.running.is_some() {
        return None;
    }
    let image = container.image.clone();
    let exits = u32::try_from(container.restart_count).unwrap_or(0);
    if let Some(terminated) = &state.terminated {
        let exits = exits.saturating_add(1);
        // The kubelet starts it again at once. Only the next time is a loop.
        if exits < LOOP_EXITS_LEAST {
            return None;
        }
        let state =
            ContainerState { terminated: Some(terminated.clone()), ..ContainerState::default() };
        return Some(Trouble::Crashes { image, exits, cause: last_words(&state) });
    }
    let waiting = state.waiting.as_ref()?;
    let message = waiting.message.clone().unwrap_or_default();
    match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            Some(Trouble::Image { image: container.image.clone(), message })
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(Trouble::Configuration { message })
        }
        "CrashLoopBackOff" => {
            let cause = container.last_state.as_ref().map(last_words).unwrap_or(message);
            Some(Trouble::Crashes { image, exits, cause })
        }
        _ => container
            .last_state
            .as_ref()
            .filter(|last| last.terminated.is_some() && exits >= LOOP_EXITS_LEAST)
            .map(|last| Trouble::Crashes { image, exits, cause: last_words(last) }),
    }
}

/// How a container ended: exit code or signal, and its termination message.
fn last_words(state: &ContainerState) -> String {
    let Some(terminated) = &state.terminated else { return String::new() };
    let reason = terminated.reason.as_deref().unwrap_or("ended");
    let remedy = match reason {
        "OOMKilled" => ", its memory limit is too small",
        _ => "",
    };
    let message = terminated.message.as_deref().unwrap_or_default().trim();
    let mut text = format!("{reason} (exit code {}){remedy}", terminated.exit_code);
    if !message.is_empty() {
        let message: String = message.chars().take(CAUSE_CHARS_MAX).collect();
        text = format!("{text}: {message}");
    }
    text
}
