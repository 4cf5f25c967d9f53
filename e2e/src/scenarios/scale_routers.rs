//! A router that goes finishes what it began.

use crate::scenario::Component;
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use anyhow::Result;
use serde_json::json;

pub const SCENARIO: Scenario = Scenario {
    name: "scale-routers",
    summary: "routers come and go",
    needs: Needs::Nothing,
    length: Length::Long,
    play: |scene| Box::pin(play(scene)),
};

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let scale = async {
        for count in [4, 1, 2] {
            println!("{count} routers");
            deployment.change(json!({"router": {"min": count}})).await?;
            deployment.whole().await?;
            deployment.until_count(Component::Router, count).await?;
        }
        Ok(())
    };
    scene.under_traffic(&deployment, Reconnects::Forbidden, scale).await
}
