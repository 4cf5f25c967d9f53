//! A bad release: its program ends at once, or it is not there at all.

use crate::scenario::{Component, condition};
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::Duration;

pub const SCENARIO: Scenario = Scenario {
    name: "bad-image",
    summary: "an image that cannot run stops the roll-out before it harms anyone",
    needs: Needs::Nothing,
    length: Length::Long,
    play: |scene| Box::pin(play(scene)),
};

/// For the status to say what is wrong; a crash loop takes a few rounds to be one.
const SEEN_WAIT: Duration = Duration::from_secs(120);

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let missing = format!("{}-that-is-not-there", scene.images.serving);
    for image in [&scene.images.broken_serving, &missing] {
        let bad = async {
            deployment.change(json!({"image": image})).await?;
            let seen = deployment.until("a status that names the image", SEEN_WAIT, |object| {
                ["Progressing", "Degraded"].iter().any(|kind| {
                    let (_, _, message) = condition(object, kind);
                    message.contains(image.as_str())
                })
            });
            let object = seen.await.with_context(|| format!("with image {image}"))?;
            for kind in ["Progressing", "Degraded"] {
                let (status, reason, message) = condition(&object, kind);
                println!("{kind}={status} {reason}: {message}");
            }
            let ready = deployment.pods(Component::Agent).await?;
            let ready = ready.iter().filter(|pod| pod.ready).count();
            ensure!(ready >= 2, "the roll-out went on: {ready} agents are ready");
            let routers = deployment.pods(Component::Router).await?;
            let ready = routers.iter().filter(|pod| pod.ready).count();
            ensure!(ready >= 2, "the roll-out went on: {ready} routers are ready");
            deployment.change(json!({"image": scene.images.serving})).await?;
            deployment.rolled().await.map(drop)
        };
        scene.under_traffic(&deployment, Reconnects::Forbidden, bad).await?;
    }
    Ok(())
}
