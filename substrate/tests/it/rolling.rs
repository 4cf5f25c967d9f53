//! What a rollout does to the inventory that the planner sees.

use crate::example::{agent, inventory};
use planner::inventory::AgentState;
use planner::moment::Moment;
use planner::rollout::{Experts, RolloutMemory, Stage, Subject};
use proto::v1::{AgentPhase, AgentStatus};
use substrate::lost::Losses;
use substrate::report::{Report, Reports};
use substrate::rolling::mark;

fn marked(stage: Stage, experts: Experts, state: AgentState) -> AgentState {
    marked_as(stage, experts, state, AgentPhase::Ready)
}

fn marked_as(stage: Stage, experts: Experts, state: AgentState, phase: AgentPhase) -> AgentState {
    let mut inventory = inventory(2);
    inventory.agents.get_mut(&agent(0)).unwrap().state = state;
    let subject = Subject { agent: agent(0), stage, experts, since: Moment(0), progress: 0 };
    let memory = RolloutMemory { subject: Some(subject) };
    let status = AgentStatus { phase: phase.into(), ..AgentStatus::default() };
    let reports = Reports::from([(agent(0), Report::Heard(Box::new(status)))]);
    mark(&mut inventory, &memory, &Losses::default(), &reports);
    assert_eq!(inventory.agents[&agent(1)].state, AgentState::Running);
    inventory.agents[&agent(0)].state
}

#[test]
fn experts_go_back_to_nobody_who_is_about_to_be_restarted() {
    use AgentState::{Draining, Leaving, Lost, Restarting, Running};
    use Experts::{Moved, Stay};
    assert_eq!(marked(Stage::Evacuating, Stay, Running), Leaving);
    assert_eq!(marked(Stage::Draining, Stay, Running), Draining);
    assert_eq!(marked(Stage::DrainingAlone, Stay, Running), Draining);
    assert_eq!(marked(Stage::Draining, Moved, Running), Leaving);
    assert_eq!(marked(Stage::Returning, Moved, Restarting), Lost);
    assert_eq!(marked(Stage::Returning, Stay, Restarting), Restarting);
    assert_eq!(marked(Stage::Returning, Moved, Running), Running);
    // Its old process still runs.
    let old = marked_as(Stage::Returning, Moved, Running, AgentPhase::Draining);
    assert_eq!(old, Leaving);
}
