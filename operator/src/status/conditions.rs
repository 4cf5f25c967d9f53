//! What is known → the five conditions, each with a typed reason and a message with numbers and remedy. Pure.
//!
//! Each function answers one condition's question with the first cause that is the worst; the message names them all.

use super::compose::View;
use super::meaning::{Meaning, agent, meaning};
use super::remedy;
use crate::apply::ApplyError;
use crate::kubernetes::SubstrateError;
use crate::watch::pod::Trouble;
use crds::{ConditionReason, ConditionStatus, ConditionType, Observed, Violation};
use planner::plan::PlanError;
use substrate::reason::Reason;
use substrate::{DeploymentStatus, Phase};

/// Causes of one kind that a message lists; the rest is counted.
const CAUSES_MAX: usize = 4;

/// All five, in order.
pub fn conditions(view: &View<'_>) -> Vec<Observed> {
    vec![accepted(view), fits(view), progressing(view), available(view), degraded(view)]
}

/// The spec and everything it names can be used.
fn accepted(view: &View<'_>) -> Observed {
    let condition = ConditionType::Accepted;
    if !view.violations.is_empty() {
        let causes: Vec<String> = view.violations.iter().map(Violation::to_string).collect();
        let whole = view.violations.iter().any(|it| it.field == crds::UNREADABLE_FIELD);
        let reason =
            if whole { ConditionReason::UnknownVersion } else { ConditionReason::InvalidSpec };
        return no(condition, reason, list(&causes));
    }
    let taken =
        view.failures.iter().find(|it| matches!(apply_error(it), Some(ApplyError::Foreign { .. })));
    if let Some(taken) = taken {
        return no(condition, ConditionReason::NameTaken, taken.to_string());
    }
    let named = view.troubles.iter().find_map(|(pod, trouble)| match trouble {
        Trouble::Configuration { message } if !remedy::is_storage(message) => {
            Some(remedy::configuration(view.spec, pod, message))
        }
        Trouble::Unschedulable { message } => remedy::claim(view.spec, message),
        Trouble::Configuration { .. } | Trouble::Image { .. } | Trouble::Crashes { .. } => None,
    });
    if let Some((reason, message)) = named {
        return no(condition, reason, message);
    }
    for reason in view.reasons() {
        if let Reason::ContextTooLong { .. } = reason {
            let message = format!("spec.model.contextLength: {reason}");
            return no(condition, ConditionReason::ContextTooLong, message);
        }
        if let Reason::AgentFailed { error, .. } = reason
            && let Some((why, message)) = remedy::source(view.spec, error)
        {
            return no(condition, why, message);
        }
    }
    yes(condition, ConditionReason::Valid, "the spec can be used")
}

/// The agents have room for the model.
fn fits(view: &View<'_>) -> Observed {
    let condition = ConditionType::Fits;
    let quota = view.failures.iter().find(|it| is_quota(it));
    if let Some(quota) = quota {
        return no(condition, ConditionReason::QuotaExceeded, quota_message(&quota.to_string()));
    }
    if let Some(refused) = view.refused_pods {
        return no(condition, ConditionReason::QuotaExceeded, quota_message(refused));
    }
    for reason in view.reasons() {
        if let Reason::NoPlan { error } = reason
            && is_too_small(error)
        {
            let message = remedy::memory(view.spec, error);
            return no(condition, ConditionReason::MemoryTooSmall, message);
        }
    }
    let unschedulable = view.troubles.iter().filter_map(|(pod, trouble)| match trouble {
        Trouble::Unschedulable { message } if remedy::claim(view.spec, message).is_none() => {
            Some(format!("{pod}: {message}"))
        }
        Trouble::Unschedulable { .. }
        | Trouble::Image { .. }
        | Trouble::Configuration { .. }
        | Trouble::Crashes { .. } => None,
    });
    let unschedulable: Vec<String> = unschedulable.collect();
    if !unschedulable.is_empty() {
        let message = format!(
            "{}; add nodes, or change spec.agents.resources or spec.agents.template",
            list(&unschedulable)
        );
        return no(condition, ConditionReason::Unschedulable, message);
    }
    for reason in view.reasons() {
        if let Reason::PlanFallsShort { shortfall } = reason {
            let kind = shortfall_reason(shortfall);
            if let Some(kind) = kind {
                return no(condition, kind, remedy::copies(view.spec, shortfall));
            }
        }
    }
    match view.serving.and_then(|status| status.plan.generation) {
        Some(_) => {
            yes(condition, ConditionReason::RoomEnough, "the agents have room for the model")
        }
        None => Observed {
            condition,
            status: ConditionStatus::Unknown,
            reason: ConditionReason::FactsMissing,
            message: "no agent has read the model yet".to_owned(),
        },
    }
}

/// Boyle is changing something, or cannot.
fn progressing(view: &View<'_>) -> Observed {
    let condition = ConditionType::Progressing;
    if view.violations.is_empty()
        && let Some(blocked) = blocked(view)
    {
        return no(condition, ConditionReason::Blocked, blocked);
    }
    if let Some((group, rising)) = view.rising {
        let message = format!(
            "group {group} loads the new model: {} of {} agents ready",
            rising.agents.ready, rising.agents.desired
        );
        return yes(condition, ConditionReason::RollingOut, message);
    }
    let Some(status) = view.serving else {
        let reason = ConditionReason::AgentsStarting;
        if view.violations.is_empty() {
            return yes(condition, reason, "agents are being made");
        }
        return no(condition, ConditionReason::Blocked, "the spec has to be corrected first");
    };
    let agents = format!("{} of {} agents ready", status.agents.ready, status.agents.desired);
    let (reason, rank) = status
        .reasons
        .iter()
        .filter_map(activity)
        .max_by_key(|it| it.1)
        .unwrap_or((ConditionReason::Settled, 0));
    if rank == 0 {
        if status.phase == Phase::Available || status.phase == Phase::Sleeping {
            return no(condition, ConditionReason::Settled, agents);
        }
        return yes(condition, ConditionReason::AgentsStarting, agents);
    }
    let causes = status.reasons.iter().filter(|it| activity(it).is_some()).map(ToString::to_string);
    let causes: Vec<String> = causes.collect();
    yes(condition, reason, format!("{agents}; {}", list(&causes)))
}

fn activity(reason: &Reason) -> Option<(ConditionReason, u8)> {
    match meaning(reason) {
        Meaning::Activity(kind, rank) => Some((kind, rank)),
        Meaning::Block | Meaning::Loss(..) | Meaning::LossOnceServing(..) | Meaning::Nothing => {
            None
        }
    }
}

/// Why nothing goes on, although something should.
fn blocked(view: &View<'_>) -> Option<String> {
    let mut causes = Vec::new();
    for (pod, trouble) in view.troubles {
        match trouble {
            Trouble::Image { image, message } => {
                causes.push(remedy::image(pod, image, message));
            }
            Trouble::Configuration { message } => causes.push(format!("{pod}: {message}")),
            Trouble::Unschedulable { message } => causes.push(format!("{pod}: {message}")),
            Trouble::Crashes { image, exits, cause } => {
                causes.push(crash(pod, (image, *exits), cause));
            }
        }
    }
    let blocks = view.reasons().filter(|reason| meaning(reason) == Meaning::Block);
    // What a pod suffers from has been said.
    let blocks = blocks.filter(|reason| {
        !matches!(reason, Reason::AgentUnstartable { .. } | Reason::AgentUnschedulable { .. })
    });
    causes.extend(blocks.map(ToString::to_string));
    let failed = view.reasons().filter(|reason| matches!(reason, Reason::AgentFailed { .. }));
    causes.extend(failed.map(ToString::to_string));
    causes.extend(view.failures.iter().map(|error| crate::error::describe(error)));
    (!causes.is_empty()).then(|| list(&causes))
}

/// Requests are answered.
fn available(view: &View<'_>) -> Observed {
    let condition = ConditionType::Available;
    let Some(status) = view.serving else {
        return no(condition, ConditionReason::NoAgent, "no agent is there yet");
    };
    if view.router_pods_ready == 0 && matches!(status.phase, Phase::Sleeping) {
        return no(condition, ConditionReason::NoRouter, "no router pod is ready yet");
    }
    if status.phase == Phase::Sleeping {
        let message = "no agent runs because nobody asks; the next request wakes one";
        return yes(condition, ConditionReason::Asleep, message);
    }
    if matches!(view.before.phase, Some(crds::Phase::Asleep | crds::Phase::Waking))
        && status.agents.ready == 0
    {
        let message = "the first agents start; requests wait for them";
        return yes(condition, ConditionReason::Asleep, message);
    }
    if status.agents.ready == 0 {
        let message = format!("none of {} agents is ready", status.agents.desired);
        return no(condition, ConditionReason::NoAgent, message);
    }
    if status.experts.missing > 0 {
        let message = format!("no agent holds {} experts", status.experts.missing);
        return no(condition, ConditionReason::ExpertsMissing, message);
    }
    if status.routers.ready == 0 || view.router_pods_ready == 0 {
        let message = format!(
            "of {} routers {} have a home and {} pods are ready",
            status.routers.desired, status.routers.ready, view.router_pods_ready
        );
        return no(condition, ConditionReason::NoRouter, message);
    }
    // Before the first time, all of it has to be there: a request then finds what was asked for.
    let was = view.was_available();
    if !was && status.phase != Phase::Available {
        let AgentsLine(agents) = AgentsLine::of(status);
        return no(condition, ConditionReason::NoAgent, agents);
    }
    let message =
        format!("requests are answered at {}", status.url.as_deref().unwrap_or("the router"));
    yes(condition, ConditionReason::Serving, message)
}

struct AgentsLine(String);

impl AgentsLine {
    fn of(status: &DeploymentStatus) -> Self {
        Self(format!("{} of {} agents ready", status.agents.ready, status.agents.desired))
    }
}

/// Something is lost or broken.
fn degraded(view: &View<'_>) -> Observed {
    let condition = ConditionType::Degraded;
    let mut losses: Vec<(u8, ConditionReason, String)> = Vec::new();
    for error in view.failures {
        let reason = match error {
            SubstrateError::Identity(_) => ConditionReason::CertificateFailed,
            SubstrateError::Apply(_)
            | SubstrateError::Desired(_)
            | SubstrateError::Several { .. }
            | SubstrateError::Pack { .. }
            | SubstrateError::Unread { .. }
            | SubstrateError::RecordedByAnother { .. } => ConditionReason::ApplyFailed,
        };
        losses.push((5, reason, crate::error::describe(error)));
    }
    for (pod, trouble) in view.troubles {
        match trouble {
            Trouble::Image { image, message } => {
                let text = remedy::image(pod, image, message);
                losses.push((4, ConditionReason::ImagePullFailed, text));
            }
            Trouble::Configuration { message } if remedy::is_storage(message) => {
                losses.push((5, ConditionReason::StorageFull, remedy::storage(pod, message)));
            }
            Trouble::Crashes { cause, .. } if remedy::is_storage(cause) => {
                losses.push((5, ConditionReason::StorageFull, remedy::storage(pod, cause)));
            }
            Trouble::Crashes { image, exits, cause } => {
                let text = crash(pod, (image, *exits), cause);
                losses.push((4, ConditionReason::CrashLooping, text));
            }
            Trouble::Configuration { .. } | Trouble::Unschedulable { .. } => {}
        }
    }
    let serving = view.serving.map(|status| status.reasons.as_slice()).unwrap_or_default();
    losses.extend(serving.iter().filter_map(|reason| loss(view, reason)));
    losses.sort_by_key(|(rank, ..)| std::cmp::Reverse(*rank));
    let Some((_, reason, _)) = losses.first() else {
        return no(condition, ConditionReason::Whole, "nothing is lost");
    };
    let reason = *reason;
    let causes: Vec<String> = losses.into_iter().map(|(_, _, text)| text).collect();
    yes(condition, reason, list(&causes))
}

fn loss(view: &View<'_>, reason: &Reason) -> Option<(u8, ConditionReason, String)> {
    match meaning(reason) {
        Meaning::Loss(kind, rank) => Some((rank, kind, located(view, reason))),
        Meaning::LossOnceServing(kind, rank) if view.was_available() => {
            Some((rank, kind, located(view, reason)))
        }
        Meaning::LossOnceServing(..)
        | Meaning::Activity(..)
        | Meaning::Block
        | Meaning::Nothing => None,
    }
}

/// A reason, with the machine of the agent that it is about.
fn located(view: &View<'_>, reason: &Reason) -> String {
    let lost = match reason {
        Reason::PeerTrouble { peer, .. } => Some(peer),
        _ => agent(reason),
    };
    match lost.and_then(|agent| view.nodes.get(agent.as_str())) {
        Some(node) => format!("on {node}: {reason}"),
        None => reason.to_string(),
    }
}

fn crash(pod: &str, (image, exits): (&str, u32), cause: &str) -> String {
    format!("{pod} with image {image} ended {exits} times, the last: {cause}")
}

fn apply_error(error: &SubstrateError) -> Option<&ApplyError> {
    match error {
        SubstrateError::Apply(error) | SubstrateError::Several { first: error, .. } => Some(error),
        SubstrateError::Desired(_)
        | SubstrateError::Identity(_)
        | SubstrateError::Pack { .. }
        | SubstrateError::Unread { .. }
        | SubstrateError::RecordedByAnother { .. } => None,
    }
}

fn is_quota(error: &SubstrateError) -> bool {
    apply_error(error).is_some_and(|error| match error {
        ApplyError::Refused { code, message, .. } => *code == 403 && message.contains("quota"),
        ApplyError::Desired(_) | ApplyError::Foreign { .. } | ApplyError::Unreachable { .. } => {
            false
        }
    })
}

fn quota_message(refused: &str) -> String {
    format!("{refused}; raise the namespace's ResourceQuota, or lower spec.agents and spec.router")
}

/// The planner's words for what it had to leave undone; `None` for what only time mends.
fn shortfall_reason(shortfall: &str) -> Option<ConditionReason> {
    if shortfall.contains("share a host") {
        Some(ConditionReason::HostsTooFew)
    } else if shortfall.contains("room") {
        Some(ConditionReason::MemoryTooSmall)
    } else {
        None
    }
}

/// The planner's words when there is too little memory.
fn is_too_small(error: &str) -> bool {
    let model = PlanError::DoesNotFit { needed: 0, available: 0, arithmetic: String::new() };
    // Everything of its text before the first number.
    let text = model.to_string();
    let verb = text.split(char::is_numeric).nth(1).unwrap_or_default();
    error.contains(verb)
}

fn list(causes: &[String]) -> String {
    let shown: Vec<&str> = causes.iter().take(CAUSES_MAX).map(String::as_str).collect();
    let more = causes.len().saturating_sub(CAUSES_MAX);
    let shown = shown.join("; ");
    if more == 0 { shown } else { format!("{shown}; and {more} more") }
}

fn yes(condition: ConditionType, reason: ConditionReason, message: impl Into<String>) -> Observed {
    Observed { condition, status: ConditionStatus::True, reason, message: message.into() }
}

fn no(condition: ConditionType, reason: ConditionReason, message: impl Into<String>) -> Observed {
    Observed { condition, status: ConditionStatus::False, reason, message: message.into() }
}
