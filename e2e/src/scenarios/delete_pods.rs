//! Somebody cleans up pods by hand.

use crate::scenario::{Component, Deployment};
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use crate::traffic::random::Random;
use anyhow::{Context, Result};

pub const SCENARIO: Scenario = Scenario {
    name: "delete-pods",
    summary: "agents and routers are deleted, politely and by force",
    needs: Needs::Nothing,
    length: Length::Long,
    play: |scene| Box::pin(play(scene)),
};

const POLITE: &[&str] = &[];
const FORCED: &[&str] = &["--grace-period=0", "--force"];

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let mut random = scene.random();
    for (component, how, reconnects) in [
        (Component::Agent, POLITE, Reconnects::Forbidden),
        (Component::Router, POLITE, Reconnects::Forbidden),
        (Component::Agent, FORCED, Reconnects::Forbidden),
        (Component::Router, FORCED, Reconnects::Allowed),
    ] {
        println!("-- {component:?} {how:?}");
        let deleted = async {
            for _ in 0..scene.times() {
                delete(&deployment, &mut random, component, how).await?;
            }
            Ok(())
        };
        scene.under_traffic(&deployment, reconnects, deleted).await?;
    }
    Ok(())
}

async fn delete(
    deployment: &Deployment,
    random: &mut Random,
    component: Component,
    how: &[&str],
) -> Result<()> {
    let pods = deployment.pods(component).await?;
    let pod = pods.get(random.below(pods.len())).context("no pods")?;
    deployment.delete_pod(&pod.name, how).await?;
    deployment
        .until_replaced(component, &pod.uid)
        .await
        .with_context(|| format!("after {} was deleted", pod.name))
}
