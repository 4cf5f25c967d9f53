//! An upgrade of the chart with a new operator and a new default serving image.

use crate::scenario::{Component, operator};
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use anyhow::{Result, ensure};

pub const SCENARIO: Scenario = Scenario {
    name: "operator-upgrade",
    summary: "the operator is upgraded, and no pod that serves is touched",
    needs: Needs::Nothing,
    length: Length::Short,
    play: |scene| Box::pin(play(scene)),
};

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let uids = async || {
        let agents = deployment.uids(Component::Agent).await?;
        Ok::<_, anyhow::Error>((agents, deployment.uids(Component::Router).await?))
    };
    let before = uids().await?;
    let upgrade = async {
        let (operator, serving) = (&scene.images.next_operator, &scene.images.next_serving);
        operator::install_with(operator, serving, &[]).await?;
        deployment.recovered().await
    };
    scene.under_traffic(&deployment, Reconnects::Forbidden, upgrade).await?;
    let after = uids().await?;
    ensure!(before == after, "pods were replaced: {before:?}, {after:?}");
    Ok(())
}
