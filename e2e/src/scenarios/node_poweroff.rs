//! The worst kind of loss: nothing says goodbye.

use crate::scenario::{Deployment, condition};
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use crate::traffic::random::Random;
use anyhow::{Context, Result, ensure};
use cluster::Cluster;
use serde_json::Value;
use std::time::{Duration, Instant};

pub const SCENARIO: Scenario = Scenario {
    name: "node-poweroff",
    summary: "a node loses its power and comes back",
    needs: Needs::Machines,
    length: Length::Short,
    play: |scene| Box::pin(play(scene)),
};

/// For the loss to be seen in the status.
const SEEN_WAIT: Duration = Duration::from_secs(60);
/// Without power, once the loss is known.
const ALONE: Duration = Duration::from_secs(10);
/// Until the next loss, at most.
const MOMENT_MOST: Duration = Duration::from_secs(3);

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let mut random = scene.random();
    let power = async {
        for _ in 0..scene.times() {
            let node = some_node(&deployment, &mut random).await?;
            tokio::time::sleep(random.between(Duration::ZERO, MOMENT_MOST)).await;
            println!("node{node} loses its power");
            let seen = lose(scene, &deployment, node).await;
            // Requests go on without it for a while.
            tokio::time::sleep(ALONE).await;
            scene.machines()?.power_on(node)?;
            seen?;
            deployment.recovered().await?;
        }
        Ok(())
    };
    // Routers on that node take their connections along.
    scene.under_traffic(&deployment, Reconnects::Allowed, power).await
}

/// Takes a node's power away, and waits until the status names it.
async fn lose(scene: &Scene, deployment: &Deployment, node: u8) -> Result<()> {
    let cluster = scene.machines()?.name().clone();
    let since = Instant::now();
    // Its cable is the first to go; the rest takes seconds, in which it may be replaced already.
    let off = tokio::task::spawn_blocking(move || Cluster::open(&cluster)?.power_off(node));
    let named = |object: &Value| {
        let (status, _, message) = condition(object, "Degraded");
        status == "True" && message.contains(&format!("node{node}"))
    };
    let seen = deployment.until("a status that names the node", SEEN_WAIT, named).await;
    let seconds = since.elapsed().as_secs_f64();
    off.await??;
    let message = condition(&seen?, "Degraded").2;
    println!("after {seconds:.1} s the status says {message}");
    Ok(())
}

/// The number of a node with an agent.
pub async fn some_node(deployment: &Deployment, random: &mut Random) -> Result<u8> {
    let nodes: Vec<String> = deployment.by_node().await?.into_keys().collect();
    ensure!(!nodes.is_empty(), "no agent runs anywhere");
    let node = &nodes[random.below(nodes.len())];
    let number = node.strip_prefix("node").and_then(|number| number.parse().ok());
    number.with_context(|| format!("{node} is no node of ours"))
}
