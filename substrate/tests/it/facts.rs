//! Whose word about the model counts.

use crate::example::{agent, facts, goal, planned};
use planner::spec::{FactsFrom, Goal, ModelFacts};
use proto::v1::{self, AgentStatus};
use substrate::facts::{choose, differing, is_eligible};
use substrate::reason::Reason;
use substrate::report::{Report, Reports};

fn from_agents() -> Goal {
    Goal { facts: FactsFrom::Agents, ..goal(3, 2) }
}

fn reports(fingerprints: &[&str]) -> Reports {
    let report = |(n, fingerprint): (usize, &&str)| {
        let facts = facts();
        let model = v1::ModelFacts {
            fingerprint: (*fingerprint).to_owned(),
            moe_layers: facts.moe_layers,
            experts_per_layer: facts.experts_per_layer,
            dense_bytes: facts.dense_bytes,
            expert_bytes: facts.expert_bytes,
            context_length_max: facts.context_length_max,
            cache_token_bytes: facts.cache_token_bytes,
            ..v1::ModelFacts::default()
        };
        let status = AgentStatus { model: Some(model), ..AgentStatus::default() };
        (agent(u32::try_from(n).unwrap()), Report::Heard(Box::new(status)))
    };
    fingerprints.iter().enumerate().map(report).collect()
}

fn fingerprint(facts: Option<ModelFacts>) -> Option<String> {
    facts.map(|facts| facts.fingerprint)
}

#[test]
fn the_first_report_counts_until_there_is_a_plan_and_then_the_plan() {
    let goal = from_agents();
    assert_eq!(choose(&goal, None, &Reports::new()), None);
    let told = reports(&["small-1", "small-2"]);
    assert_eq!(choose(&goal, None, &told), Some(facts()));
    let plan = planned(3, 2);
    let told = reports(&["small-2", "small-1", "small-1"]);
    assert_eq!(choose(&goal, Some(&plan), &told), Some(facts()), "one agent changes nothing");
    assert_eq!(choose(&goal, Some(&plan), &Reports::new()), Some(facts()), "nor does silence");
    let told = reports(&["small-2", "small-2", "small-2"]);
    let found = fingerprint(choose(&goal, Some(&plan), &told));
    assert_eq!(found.as_deref(), Some("small-2"), "nobody is left who has the old one");
}

#[test]
fn an_agent_with_another_model_gets_no_share_and_a_reason() {
    let told = reports(&["small-1", "small-2"]);
    let reasons = differing(&facts(), &told);
    let [Reason::ModelsDiffer { agent: who, planned, reported }] = reasons.as_slice() else {
        panic!("{reasons:?}");
    };
    assert_eq!((who, planned.as_str(), reported.as_str()), (&agent(1), "small-1", "small-2"));
    let eligible = |goal: &Goal, n| {
        let who = agent(n);
        is_eligible(goal, Some(&self::planned(2, 2)), (&who, told.get(&who)), &facts())
    };
    assert!(eligible(&from_agents(), 0));
    assert!(!eligible(&from_agents(), 1));
    assert!(!eligible(&from_agents(), 5), "it has not read the model yet");
    assert!(eligible(&goal(3, 2), 5), "the caller has");
}

#[test]
fn an_agent_of_the_plan_stays_while_it_is_not_heard() {
    let plan = planned(3, 2);
    let who = agent(2);
    let report = Report::Silent { cause: "gone".to_owned() };
    assert!(is_eligible(&from_agents(), Some(&plan), (&who, Some(&report)), &facts()));
}
