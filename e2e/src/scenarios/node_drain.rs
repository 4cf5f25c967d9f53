//! What an administrator does before a reboot.

use super::node_poweroff::some_node;
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use anyhow::Result;

pub const SCENARIO: Scenario = Scenario {
    name: "node-drain",
    summary: "a node is drained for maintenance, and used again",
    needs: Needs::Machines,
    length: Length::Short,
    play: |scene| Box::pin(play(scene)),
};

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let node = some_node(&deployment, &mut scene.random()).await?;
    let maintenance = async {
        println!("draining node{node}");
        scene.machines()?.drain(node)?;
        scene.machines()?.uncordon(node)?;
        deployment.recovered().await
    };
    scene.under_traffic(&deployment, Reconnects::Forbidden, maintenance).await
}
