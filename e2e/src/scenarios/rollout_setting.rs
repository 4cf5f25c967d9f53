//! Agents restart one after another with another context length.

use crate::scenario::Component;
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use anyhow::{Result, ensure};
use serde_json::json;

pub const SCENARIO: Scenario = Scenario {
    name: "rollout-setting",
    summary: "a setting that needs a restart is rolled out",
    needs: Needs::Nothing,
    length: Length::Long,
    play: |scene| Box::pin(play(scene)),
};

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let before = deployment.uids(Component::Agent).await?;
    let roll = async {
        deployment.change(json!({"model": {"contextLength": 448}})).await?;
        deployment.rolled().await
    };
    let object = scene.under_traffic(&deployment, Reconnects::Forbidden, roll).await?;
    let length = &object["status"]["model"]["contextLength"];
    ensure!(length == 448, "agents serve a context of {length} tokens");
    let after = deployment.uids(Component::Agent).await?;
    ensure!(before.is_disjoint(&after), "an agent was not restarted: {before:?}, {after:?}");
    Ok(())
}
