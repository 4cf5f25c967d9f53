//! Somebody cleans up pods by hand.

use crate::scenario::{Component, Deployment};
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use anyhow::{Context, Result};

pub const SCENARIO: Scenario = Scenario {
    name: "delete-pods",
    summary: "agents and routers are deleted, politely and by force",
    needs: Needs::Nothing,
    length: Length::Short,
    play: |scene| Box::pin(play(scene)),
};

const POLITE: &[&str] = &[];
const FORCED: &[&str] = &["--grace-period=0", "--force"];

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    for (component, how, reconnects) in [
        (Component::Agent, POLITE, Reconnects::Forbidden),
        (Component::Router, POLITE, Reconnects::Forbidden),
        (Component::Agent, FORCED, Reconnects::Forbidden),
        (Component::Router, FORCED, Reconnects::Allowed),
    ] {
        println!("-- {component:?} {how:?}");
        let deleted = delete(scene, &deployment, component, how);
        scene.under_traffic(&deployment, reconnects, deleted).await?;
    }
    Ok(())
}

async fn delete(
    scene: &Scene,
    deployment: &Deployment,
    component: Component,
    how: &[&str],
) -> Result<()> {
    let pods = deployment.pods(component).await?;
    let pod = pods.get(scene.random().below(pods.len())).context("no pods")?;
    deployment.delete_pod(&pod.name, how).await?;
    deployment
        .until_replaced(component, &pod.uid)
        .await
        .with_context(|| format!("after {} was deleted", pod.name))
}
