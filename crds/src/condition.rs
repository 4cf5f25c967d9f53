//! Conditions: their types and reasons as types, and how a list of them is kept. Knows no clock.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::fmt;

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The spec and everything that it names (Secret, claim, model) can be used.
    Accepted,
    /// The agents have room for the model, its cache and the copies asked for.
    Fits,
    /// Boyle is changing something: loading, scaling, rolling out.
    Progressing,
    /// Requests are answered, or held while the deployment wakes.
    Available,
    /// Something is lost or broken.
    Degraded,
}

impl ConditionType {
    /// In the order in which they are shown.
    pub const ALL: [Self; 5] =
        [Self::Accepted, Self::Fits, Self::Progressing, Self::Available, Self::Degraded];
}

impl fmt::Display for ConditionType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The variants' names are the words.
        fmt::Debug::fmt(self, formatter)
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// Why a condition is as it is; also the reason of the Event that tells of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionReason {
    // Accepted
    /// The spec can be used.
    Valid,
    /// A field's value cannot work.
    InvalidSpec,
    /// The object was written for another version of the custom resource.
    UnknownVersion,
    /// spec.model.secretName names no Secret.
    SecretNotFound,
    /// The Secret lacks a key that the source needs.
    SecretKeyMissing,
    /// The hub or store refuses the token or key.
    AccessDenied,
    /// The claim of a pvc:// source does not exist.
    ClaimNotFound,
    /// The source is there and has no such model, revision or folder.
    ModelNotFound,
    /// A file of the model is missing, truncated or no safetensors.
    ModelCorrupt,
    /// config.json names an architecture that Boyle does not have.
    ArchitectureUnknown,
    /// spec.model.contextLength is beyond the model's limit.
    ContextTooLong,
    /// The hub or store does not answer at its address.
    SourceUnreachable,
    /// Another object of the same name, not made by Boyle, is in the way.
    NameTaken,
    // Fits
    /// There is room.
    RoomEnough,
    /// Nothing is known about the model or the agents yet.
    FactsMissing,
    /// The agents' memory does not hold the model.
    MemoryTooSmall,
    /// Fewer hosts than copies.
    HostsTooFew,
    /// No node takes an agent's pod.
    Unschedulable,
    /// A ResourceQuota refuses the pods.
    QuotaExceeded,
    // Progressing
    /// Nothing is being changed.
    Settled,
    /// Agents' pods start.
    AgentsStarting,
    /// Agents read weights.
    Loading,
    /// Agents are replaced one after another.
    RollingOut,
    /// Agents are added or taken away.
    Scaling,
    /// The first agents start for requests that wait.
    Waking,
    /// It cannot go on; the message says what it waits for.
    Blocked,
    /// The deployment is being deleted.
    Terminating,
    // Available
    /// Requests are answered.
    Serving,
    /// No agent runs because nobody asks; the next request wakes one.
    Asleep,
    /// No agent can take a request.
    NoAgent,
    /// No router can take a request.
    NoRouter,
    // Degraded
    /// Nothing is lost.
    Whole,
    /// An agent is gone, silent, or hangs.
    AgentLost,
    /// No agent holds some expert.
    ExpertsMissing,
    /// Some expert has fewer copies than asked for.
    CopiesMissing,
    /// A router is gone.
    RouterLost,
    /// A pod's image cannot be pulled.
    ImagePullFailed,
    /// A container keeps ending.
    CrashLooping,
    /// A pod's disk is full.
    StorageFull,
    /// Agents have trouble with one another.
    PeerTrouble,
    /// Agents compute on different kernel paths.
    KernelPathsDiffer,
    /// A certificate could not be made or has ended.
    CertificateFailed,
    /// The API server refused a change that Boyle needs.
    ApplyFailed,
}

impl fmt::Display for ConditionReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// A condition as it is now; [`update`] puts it in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub condition: ConditionType,
    pub status: ConditionStatus,
    pub reason: ConditionReason,
    /// For people, with numbers and the remedy; cut at [`CONDITION_MESSAGE_LENGTH_MAX`].
    pub message: String,
}

/// What the API takes as a condition's message.
pub const CONDITION_MESSAGE_LENGTH_MAX: usize = 32_768;

/// Puts a condition in its place in the list. `lastTransitionTime` moves only when the status does.
///
/// Returns whether the status or the reason changed: what is worth an Event.
pub fn update(
    conditions: &mut Vec<Condition>,
    observed: Observed,
    generation: Option<i64>,
    now: &Time,
) -> Change {
    let Observed { condition, status, reason, mut message } = observed;
    let (type_, status, reason) = (condition.to_string(), status.to_string(), reason.to_string());
    cut(&mut message, CONDITION_MESSAGE_LENGTH_MAX);
    let old = conditions.iter().find(|it| it.type_ == type_);
    let change = match old {
        Some(old) if old.status == status && old.reason == reason => Change::No,
        Some(_) | None => Change::Yes,
    };
    let since = old.filter(|old| old.status == status).map(|old| &old.last_transition_time);
    let new = Condition {
        last_transition_time: since.unwrap_or(now).clone(),
        message,
        observed_generation: generation,
        reason,
        status,
        type_,
    };
    match conditions.iter_mut().find(|it| it.type_ == new.type_) {
        Some(place) => *place = new,
        None => conditions.push(new),
    }
    change
}

/// Whether a condition says something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Yes,
    No,
}

/// Shortens text to a number of bytes, at a character's end.
pub fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}
