//! The worst kind of loss: nothing says goodbye.

use crate::scenario::Deployment;
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

pub const SCENARIO: Scenario = Scenario {
    name: "node-poweroff",
    summary: "a node loses its power and comes back",
    needs: Needs::Machines,
    length: Length::Short,
    play: |scene| Box::pin(play(scene)),
};

/// For the loss to be seen in the status.
const SEEN_WAIT: Duration = Duration::from_secs(60);

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let node = some_node(scene, &deployment).await?;
    let power = async {
        println!("node{node} loses its power");
        scene.machines()?.power_off(node)?;
        let seen = deployment
            .until("Degraded", SEEN_WAIT, |object| object["status"]["phase"] == "Degraded");
        let object = seen.await?;
        println!("status says {}", crate::scenario::condition(&object, "Degraded").2);
        Ok(())
    };
    // Routers on that node take their connections along.
    scene.under_traffic(&deployment, Reconnects::Allowed, power).await?;
    let back = async {
        scene.machines()?.power_on(node)?;
        deployment.recovered().await
    };
    scene.under_traffic(&deployment, Reconnects::Allowed, back).await
}

/// The number of a node with an agent.
pub async fn some_node(scene: &Scene, deployment: &Deployment) -> Result<u8> {
    let nodes: Vec<String> = deployment.by_node().await?.into_keys().collect();
    ensure!(!nodes.is_empty(), "no agent runs anywhere");
    let node = &nodes[scene.random().below(nodes.len())];
    let number = node.strip_prefix("node").and_then(|number| number.parse().ok());
    number.with_context(|| format!("{node} is no node of ours"))
}
