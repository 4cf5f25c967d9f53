//! A node runs on, alone: what it does meanwhile must not reach anyone.

use super::node_poweroff::some_node;
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use anyhow::Result;
use std::time::Duration;

pub const SCENARIO: Scenario = Scenario {
    name: "node-cut-and-join",
    summary: "a node's cable is pulled and put back",
    needs: Needs::Machines,
    length: Length::Long,
    play: |scene| Box::pin(play(scene)),
};

/// Longer than agents and routers need to notice, shorter than Kubernetes evicts.
const ALONE: Duration = Duration::from_secs(20);
/// Until the next cut, at most.
const MOMENT_MOST: Duration = Duration::from_secs(3);

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let mut random = scene.random();
    let cable = async {
        for _ in 0..scene.times() {
            let node = some_node(&deployment, &mut random).await?;
            tokio::time::sleep(random.between(Duration::ZERO, MOMENT_MOST)).await;
            println!("node{node} is cut off");
            scene.machines()?.cut(node)?;
            tokio::time::sleep(ALONE).await;
            scene.machines()?.join(node)?;
            deployment.recovered().await?;
        }
        Ok(())
    };
    scene.under_traffic(&deployment, Reconnects::Allowed, cable).await
}
