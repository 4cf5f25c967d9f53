//! A new agent takes experts over; one that leaves hands its sequences on.

use crate::scenario::Component;
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use anyhow::{Result, ensure};
use serde_json::json;

pub const SCENARIO: Scenario = Scenario {
    name: "scale-agents",
    summary: "agents come and go",
    needs: Needs::Nothing,
    length: Length::Short,
    play: |scene| Box::pin(play(scene)),
};

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let scale = async {
        for count in [4, 2] {
            println!("{count} agents");
            deployment.change(json!({"agents": {"min": count}})).await?;
            deployment.rolled().await?;
            deployment.until_count(Component::Agent, count).await?;
            let deployed = deployment.get().await?["status"]["agents"]["ready"].as_u64();
            ensure!(deployed == Some(count as u64), "{deployed:?} agents are ready");
        }
        Ok(())
    };
    scene.under_traffic(&deployment, Reconnects::Forbidden, scale).await
}
