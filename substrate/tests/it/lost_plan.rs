//! A reconciler that starts without a plan, beside routers that know homes already or do not.

use crate::example::{agent, goal};
use crate::routers::{Router, serve};
use planner::identity::AgentId;
use planner::plan::Plan;
use planner::spec::ReplicaRange;
use proto::v1::{Home, RouterStatus, SetHomesRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;
use substrate::Reconciler;
use substrate::routers::{RouterOutcome, RouterWords, hold_unknown_homes};
use substrate::{DeploymentStatus, Observed, Substrate, Wanted};

/// Every router is visited at least three times within this, and every answer causes a round.
const ROUNDS: Duration = Duration::from_millis(2500);

/// Has lost its plan; its agents are on their way and its routers run.
struct Forgetful(Observed);

impl Substrate for Forgetful {
    type Error = Infallible;

    async fn ensure(&mut self, _: Wanted) -> Result<(), Infallible> {
        Ok(())
    }

    async fn observe(&mut self) -> Result<Observed, Infallible> {
        Ok(self.0.clone())
    }

    async fn release(&mut self, _: &AgentId) -> Result<(), Infallible> {
        Ok(())
    }

    async fn restart(&mut self, _: &AgentId) -> Result<(), Infallible> {
        Ok(())
    }

    async fn replace_lost(&mut self, _: &AgentId) -> Result<(), Infallible> {
        Ok(())
    }

    async fn recorded(&mut self) -> Result<Option<Plan>, Infallible> {
        Ok(None)
    }

    async fn record(&mut self, _: &Plan) -> Result<(), Infallible> {
        Ok(())
    }

    async fn publish(&mut self, _: &DeploymentStatus) -> Result<(), Infallible> {
        Ok(())
    }

    async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }

    async fn stop(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Homes of an earlier run.
fn earlier() -> SetHomesRequest {
    let home = Home { agent_id: "agent-0".to_owned(), ..Home::default() };
    SetHomesRequest { generation: 41, model: "small".to_owned(), homes: vec![home] }
}

/// What the router holds after several rounds with these agents.
async fn held_after(
    before: Option<SetHomesRequest>,
    agents: ReplicaRange,
    starting: BTreeSet<AgentId>,
) -> Option<SetHomesRequest> {
    let router = Router::default();
    router.0.lock().unwrap().clone_from(&before);
    let routers = vec![serve(router.clone())];
    let substrate = Forgetful(Observed { starting, routers, ..Observed::default() });
    let goal = planner::spec::Goal { agents, ..goal(1, 1) };
    let mut reconciler = Reconciler::start(substrate, goal).await.unwrap();
    let rounds = async {
        loop {
            reconciler.reconcile().await;
            reconciler.changed().await;
        }
    };
    let endless: Result<(), _> = tokio::time::timeout(ROUNDS, rounds).await;
    assert!(endless.is_err());
    let held = router.0.lock().unwrap();
    held.clone()
}

#[tokio::test]
async fn without_a_plan_routers_keep_the_homes_of_an_earlier_run() {
    let starting = BTreeSet::from([agent(0)]);
    let held = held_after(Some(earlier()), ReplicaRange::exactly(1), starting).await;
    assert_eq!(held, Some(earlier()));
}

#[tokio::test]
async fn a_new_router_learns_the_model_before_there_is_a_plan() {
    let starting = BTreeSet::from([agent(0)]);
    let held = held_after(None, ReplicaRange::exactly(1), starting).await;
    let held = held.expect("homes");
    assert_eq!((held.model.as_str(), held.homes.len()), ("small", 0));
}

#[tokio::test]
async fn routers_of_a_sleeping_deployment_forget_homes_of_an_earlier_run() {
    let agents = ReplicaRange { min: 0, max: 1 };
    let held = held_after(Some(earlier()), agents, BTreeSet::new()).await.expect("homes");
    assert_eq!((held.generation, held.homes.len()), (42, 0));
}

#[test]
fn homes_are_unknown_until_every_router_that_answers_has_said_that_it_holds_none() {
    let answers =
        |generation| RouterOutcome::Answers(RouterStatus { generation, ..RouterStatus::default() });
    let holds = RouterOutcome::Holds(RouterStatus { generation: 1, ..RouterStatus::default() });
    let failed = RouterOutcome::Failed { cause: "refused".to_owned() };
    let outdated = RouterOutcome::Outdated { cause: "older".to_owned(), generation: 41 };
    let check = |word: &RouterOutcome, told: Option<u64>, unknown: bool| {
        let words: RouterWords =
            BTreeMap::from([("a".to_owned(), word.clone()), ("b".to_owned(), answers(0))]);
        assert_eq!(hold_unknown_homes(&words, told), unknown, "{word:?}, told {told:?}");
    };
    check(&RouterOutcome::Awaited, None, true);
    check(&RouterOutcome::Awaited, Some(1), false);
    check(&answers(0), None, false);
    check(&answers(41), None, true);
    check(&outdated, Some(1), true);
    check(&holds, Some(1), false);
    check(&failed, None, false);
    assert!(!hold_unknown_homes(&RouterWords::new(), None), "there is nobody");
}
