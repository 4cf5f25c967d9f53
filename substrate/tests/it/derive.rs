//! What was applied and reported → status.

use crate::example::{agent, goal, inventory, planned, spec};
use planner::inventory::{AgentState, Inventory};
use planner::plan::{Plan, plan};
use proto::v1::{AgentPhase, AgentStatus, LayerExperts, Load};
use std::collections::BTreeMap;
use substrate::Dialer;
use substrate::apply::{Application, Applied, Contacts, apply};
use substrate::derive::{View, derive, is_covered, is_idle};
use substrate::lost::Losses;
use substrate::reason::Reason;
use substrate::report::{Report, Reports};
use substrate::routers::RouterWords;
use substrate::{DeploymentStatus, Observed, Phase, Wanted};

/// Reports of agents that hold everything the plan gives them.
fn loaded(plan: &Plan) -> Reports {
    let report = |n: u32| {
        let mut layers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (expert, holders) in &plan.placement {
            if holders.contains(&agent(n)) {
                layers.entry(expert.layer).or_default().push(expert.expert);
            }
        }
        let resident = layers.into_iter().map(|(layer, experts)| LayerExperts { layer, experts });
        let status = AgentStatus {
            agent_id: agent(n).to_string(),
            phase: AgentPhase::Ready.into(),
            generation: plan.generation.0,
            resident: resident.collect(),
            current: Some(Load { generated_tokens_per_second: 2.5, ..Load::default() }),
            ..AgentStatus::default()
        };
        (agent(n), Report::Heard(Box::new(status)))
    };
    (0..3).map(report).collect()
}

fn observed(inventory: Inventory) -> Observed {
    Observed { inventory, ..Observed::default() }
}

/// Applies to agents that nobody can reach, which leaves everything to the reports.
async fn applied(plan: &Plan, reports: &Reports) -> Applied {
    let inventory = Inventory::default();
    let routers = RouterWords::new();
    let work = Application { plan: plan.clone(), inventory: &inventory, reports, routers };
    apply(work, &mut Contacts::new(Dialer::plaintext())).await
}

fn status(applied: Option<&Applied>, observed: &Observed, reports: &Reports) -> DeploymentStatus {
    derive(
        applied,
        View {
            goal: &goal(3, 2),
            wanted: Wanted { agents: 3, routers: Some(1) },
            observed,
            reports,
            losses: &Losses::default(),
            routers: &RouterWords::new(),
            hash: String::new(),
            reasons: vec![],
            before: Phase::Pending,
        },
    )
}

#[tokio::test]
async fn copies_are_counted_by_what_is_in_memory() {
    let plan = planned(3, 2);
    let mut reports = loaded(&plan);
    let applied = applied(&plan, &reports).await;
    let there = observed(inventory(3));
    let full = status(Some(&applied), &there, &reports);
    assert_eq!((full.experts.placed, full.experts.missing), (8, 0));
    assert_eq!((full.experts.copies, full.experts.copies_planned), (2, 2));
    assert_eq!(full.agents.ready, 3);
    assert_eq!(full.tokens_per_second, 7.5);
    // No router takes requests.
    assert_eq!(full.phase, Phase::Loading);

    reports.insert(agent(0), Report::Silent { cause: "gone".to_owned() });
    let one_lost = status(Some(&applied), &there, &reports);
    assert_eq!((one_lost.experts.missing, one_lost.experts.copies), (0, 1));
    assert!(one_lost.reasons.contains(&Reason::CopiesMissing { resident: 1, wanted: 2 }));

    reports.insert(agent(1), Report::Awaited);
    let two_lost = status(Some(&applied), &there, &reports);
    assert!(two_lost.experts.missing > 0);
    assert_eq!(two_lost.experts.copies, 0);
    let missing = |reason: &Reason| matches!(reason, Reason::ExpertsMissing { count, .. } if *count == two_lost.experts.missing);
    assert!(two_lost.reasons.iter().any(missing));
}

#[tokio::test]
async fn what_cannot_mend_itself_fails() {
    let plan = planned(3, 2);
    let mut reports = loaded(&plan);
    let failed = AgentStatus {
        phase: AgentPhase::Failed.into(),
        error: "model.safetensors: tensor x: NaN".to_owned(),
        ..AgentStatus::default()
    };
    reports.insert(agent(2), Report::Heard(Box::new(failed)));
    let applied = applied(&plan, &reports).await;
    let status = status(Some(&applied), &observed(inventory(3)), &reports);
    assert_eq!(status.phase, Phase::Failed);
    let texts: Vec<String> = status.reasons.iter().map(ToString::to_string).collect();
    assert!(texts.contains(&"agent-2 failed: model.safetensors: tensor x: NaN".to_owned()));
}

#[test]
fn nothing_applied_is_pending() {
    let mut there = Observed::default();
    there.starting.insert(agent(0));
    let status = status(None, &there, &Reports::new());
    assert_eq!(status.phase, Phase::Pending);
    assert_eq!(status.reasons, [Reason::AgentStarting { agent: agent(0) }]);
}

#[test]
fn a_leaving_agent_goes_when_others_hold_its_experts_and_it_is_idle() {
    let mut there = observed(inventory(3));
    there.inventory.agents.get_mut(&agent(2)).unwrap().state = AgentState::Leaving;
    let before = planned(3, 2);
    assert!(
        !is_covered(&agent(2), Some(&before), &there, &loaded(&before)),
        "the plan does not know yet that it leaves"
    );
    let plan = plan(&spec(3, 2), &there.inventory, Some(&before)).unwrap().plan;
    let reports = loaded(&plan);
    let may_go = |reports: &Reports| {
        is_idle(&agent(2), reports) && is_covered(&agent(2), Some(&plan), &there, reports)
    };
    assert!(may_go(&reports));

    let mut unloaded = reports.clone();
    unloaded.insert(agent(1), Report::Awaited);
    assert!(!may_go(&unloaded), "another holder has not loaded");

    let mut busy = reports;
    let Some(Report::Heard(status)) = busy.get_mut(&agent(2)) else { panic!("it was heard") };
    status.current = Some(Load { sequences_running: 1, ..Load::default() });
    assert!(!may_go(&busy), "it still runs a sequence");
}
