//! Everything that is known of a deployment → the resource's status. Pure.

use super::conditions::conditions;
use super::meaning::agent;
use crate::events::{News, Weight};
use crate::kubernetes::SubstrateError;
use crate::render::{Group, Names};
use crate::watch::pod::Trouble;
use crds::{
    AGENT_DETAILS_MAX, AgentDetail, AgentsStatus, Change, ConditionStatus, ConditionType,
    ExpertsStatus, MESSAGE_LENGTH_MAX, ModelDeploymentSpec, ModelDeploymentStatus, ModelStatus,
    PlanStatus, RolloutStatus, RoutersStatus, Violation,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use substrate::reason::Reason;
use substrate::status::AgentCondition;
use substrate::{DeploymentStatus, Phase};

/// What a status is composed from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub name: &'a str,
    /// What a person wrote.
    pub spec: &'a ModelDeploymentSpec,
    pub generation: Option<i64>,
    /// The status before this one.
    pub before: &'a ModelDeploymentStatus,
    pub violations: &'a [Violation],
    /// The group that takes new requests.
    pub serving: Option<&'a DeploymentStatus>,
    /// The group that is to take over.
    pub rising: Option<(&'a Group, &'a DeploymentStatus)>,
    /// Pods that do not get on.
    pub troubles: &'a [(String, Trouble)],
    /// Why pods of a Deployment or StatefulSet cannot be made.
    pub refused_pods: Option<&'a str>,
    pub router_pods_ready: usize,
    /// Where each pod runs, as far as it is bound.
    pub nodes: &'a BTreeMap<String, String>,
    pub failures: &'a [SubstrateError],
    /// The image that is pinned; `None` while the spec names one.
    pub image: Option<&'a str>,
}

impl<'a> View<'a> {
    /// The statuses of all groups that matter to a person.
    pub fn statuses(&self) -> impl Iterator<Item = &'a DeploymentStatus> {
        self.serving.into_iter().chain(self.rising.map(|(_, status)| status))
    }

    /// Everything that keeps those groups from being what they should.
    pub fn reasons(&self) -> impl Iterator<Item = &'a Reason> {
        self.statuses().flat_map(|status| &status.reasons)
    }

    /// Whether requests have been answered before.
    pub fn was_available(&self) -> bool {
        let available = ConditionType::Available.to_string();
        let yes = ConditionStatus::True.to_string();
        let mut conditions = self.before.conditions.iter();
        conditions.any(|it| it.type_ == available && it.status == yes)
            || matches!(
                self.before.phase,
                Some(crds::Phase::Available | crds::Phase::Degraded | crds::Phase::Updating)
            )
    }
}

/// The status now, and what of it is news.
pub fn compose(view: &View<'_>, now: &Time) -> (ModelDeploymentStatus, Vec<News>) {
    let mut status = ModelDeploymentStatus {
        conditions: view.before.conditions.clone(),
        observed_generation: view.generation,
        selector: Some(Names::new(view.name).agents_selector_text()),
        image: view.image.map(str::to_owned),
        ..ModelDeploymentStatus::default()
    };
    let mut news = Vec::new();
    for observed in conditions(view) {
        let (condition, truth) = (observed.condition, observed.status);
        let reason = observed.reason.to_string();
        let note = observed.message.clone();
        match crds::update(&mut status.conditions, observed, view.generation, now) {
            Change::Yes if is_worth_telling(view, condition, truth) => {
                news.push(News { weight: weight(condition, truth), reason, note });
            }
            Change::Yes | Change::No => {}
        }
    }
    if let Some(serving) = view.serving {
        fill(&mut status, serving, view.nodes);
    }
    status.phase = Some(phase(view));
    (status, news)
}

fn fill(
    status: &mut ModelDeploymentStatus,
    serving: &DeploymentStatus,
    nodes: &BTreeMap<String, String>,
) {
    let DeploymentStatus { url, agents, experts, routers, plan, .. } = serving;
    status.url.clone_from(url);
    status.agents = Some(AgentsStatus::new(agents.ready, agents.desired));
    status.routers = Some(RoutersStatus { ready: routers.ready, desired: routers.desired });
    if let Some(generation) = plan.generation {
        status.experts = Some(ExpertsStatus::new(experts.placed, experts.missing, experts.copies));
        status.plan = Some(PlanStatus {
            generation: i64::try_from(generation.0).unwrap_or(i64::MAX),
            hash: plan.hash.clone(),
        });
        status.tokens_per_second = Some(rounded(serving.tokens_per_second));
        status.model = Some(ModelStatus {
            fingerprint: some(&plan.fingerprint),
            architecture: some(&plan.architecture),
            revision: some(&plan.revision),
            context_length: (plan.context_length > 0).then_some(plan.context_length),
        });
    }
    status.cost_per_million_tokens = serving.cost.as_ref().and_then(cost);
    status.agent_details = details(serving, nodes);
    status.rollout = rollout(serving);
}

fn details(serving: &DeploymentStatus, nodes: &BTreeMap<String, String>) -> Vec<AgentDetail> {
    let unready = serving.agent_details.iter().filter(|it| it.condition != AgentCondition::Ready);
    let mut details: Vec<(u8, AgentDetail)> = unready
        .map(|detail| {
            let about = serving.reasons.iter().filter(|it| agent(it) == Some(&detail.agent));
            let about: Vec<String> = about.map(ToString::to_string).collect();
            let mut message = about.join("; ");
            crds::cut(&mut message, MESSAGE_LENGTH_MAX);
            let shown = AgentDetail {
                name: detail.agent.to_string(),
                node: nodes.get(detail.agent.as_str()).cloned(),
                condition: detail.condition.to_string(),
                message,
            };
            (badness(detail.condition), shown)
        })
        .collect();
    details.sort_by_key(|(badness, _)| std::cmp::Reverse(*badness));
    details.truncate(AGENT_DETAILS_MAX);
    details.into_iter().map(|(_, detail)| detail).collect()
}

fn badness(condition: AgentCondition) -> u8 {
    match condition {
        AgentCondition::Failed => 7,
        AgentCondition::Lost => 6,
        AgentCondition::Silent => 5,
        AgentCondition::Restarting => 4,
        AgentCondition::Starting => 3,
        AgentCondition::Unassigned | AgentCondition::Loading => 2,
        AgentCondition::Draining => 1,
        AgentCondition::Ready => 0,
    }
}

fn rollout(serving: &DeploymentStatus) -> Option<RolloutStatus> {
    let agents = serving.agents;
    if agents.outdated == 0 {
        return None;
    }
    let about = serving.reasons.iter().filter(|reason| {
        matches!(
            reason,
            Reason::RolloutWaits { .. }
                | Reason::RolloutStopped { .. }
                | Reason::AgentDraining { .. }
        )
    });
    let about: Vec<String> = about.map(ToString::to_string).collect();
    let mut message = about.join("; ");
    crds::cut(&mut message, MESSAGE_LENGTH_MAX);
    Some(RolloutStatus {
        updated: agents.updated,
        total: agents.updated + agents.outdated,
        message,
    })
}

fn phase(view: &View<'_>) -> crds::Phase {
    let Some(serving) = view.serving else {
        return if view.violations.is_empty() { crds::Phase::Pending } else { crds::Phase::Failed };
    };
    let changes = view.rising.is_some() || serving.agents.outdated > 0;
    match serving.phase {
        Phase::Pending => coming_up(view, crds::Phase::Pending),
        Phase::Loading => coming_up(view, crds::Phase::Loading),
        // A router's pod may lag behind its own word.
        Phase::Available if view.router_pods_ready == 0 && !view.was_available() => {
            crds::Phase::Loading
        }
        Phase::Available if changes => crds::Phase::Updating,
        Phase::Available => crds::Phase::Available,
        Phase::Degraded => crds::Phase::Degraded,
        Phase::Sleeping if serving.agents.desired > 0 => crds::Phase::Waking,
        // Nobody could hold a request yet.
        Phase::Sleeping if view.router_pods_ready == 0 && !view.was_available() => {
            crds::Phase::Pending
        }
        Phase::Sleeping => crds::Phase::Asleep,
        Phase::Failed => crds::Phase::Failed,
    }
}

/// What comes up for the first time is pending or loading. After a sleep it wakes; after it has served, and with an
/// operator that has only just begun, something is missing.
fn coming_up(view: &View<'_>, first: crds::Phase) -> crds::Phase {
    match view.before.phase {
        Some(crds::Phase::Asleep | crds::Phase::Waking) => crds::Phase::Waking,
        Some(crds::Phase::Available | crds::Phase::Updating | crds::Phase::Degraded) => {
            crds::Phase::Degraded
        }
        Some(
            crds::Phase::Pending
            | crds::Phase::Loading
            | crds::Phase::Failed
            | crds::Phase::Unknown,
        )
        | None => first,
    }
}

/// Events follow what a person can act on or waits for; the rest is in the status.
fn is_worth_telling(view: &View<'_>, condition: ConditionType, truth: ConditionStatus) -> bool {
    let name = condition.to_string();
    let is_first = !view.before.conditions.iter().any(|it| it.type_ == name);
    match (condition, truth) {
        (_, ConditionStatus::Unknown)
        | (ConditionType::Accepted | ConditionType::Fits, ConditionStatus::True) => false,
        (ConditionType::Accepted | ConditionType::Fits, ConditionStatus::False)
        | (ConditionType::Degraded | ConditionType::Available, ConditionStatus::True) => true,
        // That something is not there at the beginning is no news.
        (ConditionType::Available | ConditionType::Degraded, ConditionStatus::False) => !is_first,
        (ConditionType::Progressing, ConditionStatus::True | ConditionStatus::False) => true,
    }
}

fn weight(condition: ConditionType, truth: ConditionStatus) -> Weight {
    match (condition, truth) {
        (ConditionType::Degraded, ConditionStatus::True)
        | (
            ConditionType::Accepted | ConditionType::Fits | ConditionType::Available,
            ConditionStatus::False,
        ) => Weight::Warning,
        (_, ConditionStatus::True | ConditionStatus::False | ConditionStatus::Unknown) => {
            Weight::Normal
        }
    }
}

/// Two figures are enough for people and change only with the load.
fn rounded(rate: f64) -> String {
    if rate >= 10.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn cost(cost: &planner::cost::Cost) -> Option<String> {
    Some(format!("{:.2} {}", cost.per_million_tokens?, cost.currency))
}
