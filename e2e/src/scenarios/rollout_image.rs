//! An upgrade of what serves.

use crate::scenario::{Component, Deployment};
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use anyhow::{Result, ensure};
use serde_json::json;

pub const SCENARIO: Scenario = Scenario {
    name: "rollout-image",
    summary: "another serving image is rolled out, and rolled back",
    needs: Needs::Nothing,
    length: Length::Short,
    play: |scene| Box::pin(play(scene)),
};

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let rolls = async {
        roll(&deployment, &scene.images.next_serving).await?;
        roll(&deployment, &scene.images.serving).await
    };
    scene.under_traffic(&deployment, Reconnects::Forbidden, rolls).await
}

async fn roll(deployment: &Deployment, image: &str) -> Result<()> {
    println!("rolling out {image}");
    deployment.change(json!({"image": image})).await?;
    deployment.rolled().await?;
    for component in [Component::Agent, Component::Router] {
        for pod in deployment.pods(component).await? {
            ensure!(pod.image == image, "{} still runs {}", pod.name, pod.image);
        }
    }
    Ok(())
}
