//! Nobody asks, so nothing runs.

use crate::scenario::Component;
use crate::scenario::{Length, Needs, Scenario, Scene};
use anyhow::{Result, ensure};
use serde_json::json;
use std::time::{Duration, Instant};

pub const SCENARIO: Scenario = Scenario {
    name: "scale-to-zero",
    summary: "an idle deployment falls asleep, and wakes for a request that is held",
    needs: Needs::Nothing,
    length: Length::Long,
    play: |scene| Box::pin(play(scene)),
};

/// For a deployment that may sleep after `sleepAfter`, and as long again for its agents to go.
const ASLEEP_WAIT: Duration = Duration::from_secs(120);

async fn play(scene: &Scene) -> Result<()> {
    let agents = json!({"min": 0, "max": 3, "sleepAfter": "15s", "scaleDownDelay": "15s"});
    let deployment = scene.applied(json!({"agents": agents, "experts": {"copies": 1}})).await?;
    for round in 1..=2 {
        let asleep = |object: &serde_json::Value| object["status"]["phase"] == "Asleep";
        deployment.until("Asleep", ASLEEP_WAIT, asleep).await?;
        deployment.until_count(Component::Agent, 0).await?;
        deployment.reachable().await?;
        let asked = Instant::now();
        let answer = deployment.ask("What is 17 + 25?").await?;
        ensure!(answer.content.contains("42"), "{answer:?}");
        println!("round {round}: woken and answered in {:.1} s", asked.elapsed().as_secs_f64());
    }
    Ok(())
}
