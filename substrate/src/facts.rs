//! Which model facts a plan is made for, and which agents agree with them. Pure.

use crate::reason::Reason;
use crate::report::{Report, Reports};
use planner::identity::AgentId;
use planner::plan::Plan;
use planner::spec::{FactsFrom, Goal, ModelFacts};
use proto::v1;

/// The facts to plan with; `None` while nobody has read the model.
pub fn choose(goal: &Goal, previous: Option<&Plan>, reports: &Reports) -> Option<ModelFacts> {
    match &goal.facts {
        FactsFrom::Caller(facts) => Some(facts.as_ref().clone()),
        FactsFrom::Agents => {
            let previous = previous.filter(|plan| plan.source == goal.source);
            match previous {
                Some(plan) if !is_replaced(plan, reports) => Some(plan.facts.clone()),
                Some(_) | None => reports.values().find_map(reported),
            }
        }
    }
}

/// Every agent of the plan has read another model, so nobody is left who could serve the old one.
fn is_replaced(plan: &Plan, reports: &Reports) -> bool {
    let differs = |agent| {
        let facts = reports.get(agent).and_then(reported);
        facts.is_some_and(|facts| !agrees(&plan.facts.fingerprint, &facts.fingerprint))
    };
    !plan.agents.is_empty() && plan.agents.keys().all(differs)
}

/// Whether an agent may be given a share: it agrees, or has not said otherwise where that need not be awaited.
pub fn is_eligible(
    goal: &Goal,
    previous: Option<&Plan>,
    (agent, report): (&AgentId, Option<&Report>),
    facts: &ModelFacts,
) -> bool {
    match report.and_then(reported) {
        Some(reported) => agrees(&facts.fingerprint, &reported.fingerprint),
        None => match goal.facts {
            FactsFrom::Caller(_) => true,
            FactsFrom::Agents => previous.is_some_and(|plan| plan.agents.contains_key(agent)),
        },
    }
}

/// Agents that have read another model.
pub fn differing(facts: &ModelFacts, reports: &Reports) -> Vec<Reason> {
    let reason = |(agent, report): (&AgentId, &Report)| {
        let reported = reported(report)?;
        (!agrees(&facts.fingerprint, &reported.fingerprint)).then(|| Reason::ModelsDiffer {
            agent: agent.clone(),
            planned: name(facts),
            reported: name(&reported),
        })
    };
    reports.iter().filter_map(reason).collect()
}

/// Empty fingerprints are not compared.
fn agrees(left: &str, right: &str) -> bool {
    left.is_empty() || right.is_empty() || left == right
}

fn name(facts: &ModelFacts) -> String {
    if facts.revision.is_empty() {
        return facts.fingerprint.clone();
    }
    format!("{} (revision {})", facts.fingerprint, facts.revision)
}

/// What an agent says of the model that it has read.
pub fn reported(report: &Report) -> Option<ModelFacts> {
    let facts = report.status()?.model.as_ref()?;
    // No `..`: a new field must not be forgotten here.
    let v1::ModelFacts {
        fingerprint,
        moe_layers,
        experts_per_layer,
        dense_bytes,
        expert_bytes,
        context_length_max,
        cache_token_bytes,
        architecture,
        revision,
    } = facts.clone();
    Some(ModelFacts {
        fingerprint,
        moe_layers,
        experts_per_layer,
        dense_bytes,
        expert_bytes,
        context_length_max,
        cache_token_bytes,
        architecture,
        revision,
    })
}
