//! A load step, and its end.

use crate::client::Client;
use crate::scenario::{Component, Deployment};
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::{Lateness, Load, Reconnects, Target, Traffic, prompts};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const SCENARIO: Scenario = Scenario {
    name: "autoscale",
    summary: "a load step brings three agents and routers, and its end takes them away",
    needs: Needs::Nothing,
    length: Length::Long,
    play: |scene| Box::pin(play(scene)),
};

/// What one agent runs and queues, with some room; a stream more would be told to come back later.
const STREAMS_FIRST: usize = 250;
/// With those, more than two routers are meant to hold, which is 200 each.
const STREAMS_MORE: usize = 220;
const PROMPTS: usize = 16;
/// For three agents and routers, and for one of each again: `scaleDownDelay` passes twice.
const SCALED_WAIT: Duration = Duration::from_secs(240);
/// The load stays this long after the last agent has come: enough to see it flap.
const STEADY: Duration = Duration::from_secs(30);
/// Between two looks at the status.
const LOOK: Duration = Duration::from_millis(500);

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene
        .deployed_with(json!({
            "agents": {"min": 1, "max": 3, "scaleDownDelay": "20s"},
            "router": {"min": 1, "max": 3},
            "experts": {"copies": 1},
        }))
        .await?;
    let client = Client::new(&deployment.url(), &deployment.name);
    let prompts = prompts::record(&client, PROMPTS).await.context("recording answers")?;
    let recorder = Recorder::start(deployment.clone());

    // So many streams on so small a machine are slow; what counts is that none is lost.
    let patience = Duration::from_secs(60);
    let lateness = Lateness { first_token: patience, stall: patience };
    let start = |streams| -> Result<Traffic> {
        let load = Load { lateness, ..Load::streams(streams, scene.seed) };
        let target = Target::new(&deployment.url(), &deployment.name)?;
        Ok(Traffic::start(target, prompts.clone(), load))
    };
    let first = start(STREAMS_FIRST)?;
    let up = async {
        until_wanted(&deployment, "three agents", |[agents, _]| agents == 3).await?;
        let more = start(STREAMS_MORE)?;
        let up = until_wanted(&deployment, "three routers", |wanted| wanted == [3, 3]).await;
        tokio::time::sleep(STEADY).await;
        let report = more.stop().await;
        println!("{report}");
        up?;
        // So many connections at one moment, on cores that are all busy: some take more than a try.
        scene.demand(&report, Reconnects::Allowed)
    };
    let up = up.await;
    let report = first.stop().await;
    println!("{report}");
    let step = recorder.look_back().await?;
    println!("agents and routers during the load: {step:?}");
    up?;
    scene.demand(&report, Reconnects::Allowed)?;
    ensure!(turns(&step) == [0, 0], "it changed direction while the load was steady: {step:?}");

    let recorder = Recorder::start(deployment.clone());
    until_wanted(&deployment, "one agent and router", |wanted| wanted == [1, 1]).await?;
    deployment.until_count(Component::Agent, 1).await?;
    let step = recorder.look_back().await?;
    println!("agents and routers after it: {step:?}");
    ensure!(turns(&step) == [0, 0], "it changed direction while there was no load: {step:?}");
    deployment.ask("What is 1 + 2?").await.map(drop)
}

/// Waits until the wanted numbers are there, and are ready.
async fn until_wanted(
    deployment: &Deployment,
    what: &str,
    holds: impl Fn(Numbers) -> bool,
) -> Result<()> {
    let there = |object: &Value| {
        let number = |kind: &str, of: &str| object["status"][kind][of].as_u64().unwrap_or(0);
        let desired = ["agents", "routers"].map(|kind| number(kind, "desired"));
        let ready = ["agents", "routers"].map(|kind| number(kind, "ready"));
        desired == ready && holds(desired)
    };
    deployment.until(what, SCALED_WAIT, there).await.map(drop)
}

/// Desired agents and routers.
type Numbers = [u64; 2];

/// How often each number went the other way.
fn turns(history: &[Numbers]) -> [usize; 2] {
    [0, 1].map(|kind| {
        let signs: Vec<bool> = history
            .windows(2)
            .filter(|pair| pair[0][kind] != pair[1][kind])
            .map(|pair| pair[1][kind] > pair[0][kind])
            .collect();
        signs.windows(2).filter(|pair| pair[0] != pair[1]).count()
    })
}

/// Writes down every change of the wanted numbers.
struct Recorder {
    stopping: watch::Sender<bool>,
    task: JoinHandle<Result<Vec<Numbers>>>,
}

impl Recorder {
    fn start(deployment: Deployment) -> Self {
        let (stopping, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut history: Vec<Numbers> = Vec::new();
            while !*stopped.borrow() {
                let status = &deployment.get().await?["status"];
                let desired = |kind: &str| status[kind]["desired"].as_u64().unwrap_or(0);
                let now = [desired("agents"), desired("routers")];
                if history.last() != Some(&now) {
                    history.push(now);
                }
                // Over: the loop's own condition sees it.
                let _ = tokio::time::timeout(LOOK, stopped.wait_for(|stopped| *stopped)).await;
            }
            Ok(history)
        });
        Self { stopping, task }
    }

    async fn look_back(self) -> Result<Vec<Numbers>> {
        self.stopping.send_replace(true);
        self.task.await.context("the recorder")?
    }
}

#[cfg(test)]
mod tests {
    use super::turns;

    #[test]
    fn only_a_change_of_direction_is_a_turn() {
        assert_eq!(turns(&[[1, 1], [2, 1], [2, 2], [3, 3]]), [0, 0]);
        assert_eq!(turns(&[[1, 1], [2, 1], [1, 2], [1, 1]]), [1, 1]);
        assert_eq!(turns(&[[1, 1], [2, 1], [1, 1], [2, 1], [2, 1]]), [2, 0]);
        assert_eq!(turns(&[]), [0, 0]);
    }
}
