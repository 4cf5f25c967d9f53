//! The model is changed to one that is not there.

use crate::scenario::{Component, condition};
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::storage::{REPOSITORY, Storage};
use crate::traffic::Reconnects;
use anyhow::{Result, ensure};
use serde_json::json;
use std::time::Duration;

pub const SCENARIO: Scenario = Scenario {
    name: "bad-revision",
    summary: "a model that cannot be had leaves the old one serving",
    needs: Needs::Nothing,
    length: Length::Long,
    play: |scene| Box::pin(play(scene)),
};

/// For the status to say what is wrong.
const SEEN_WAIT: Duration = Duration::from_secs(120);

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let before = deployment.uids(Component::Agent).await?;
    let storage = Storage::start().await?;
    let source = format!("hf://{REPOSITORY}");
    let bad = async {
        let model = json!({"source": source, "revision": "nowhere", "endpoint": storage.url});
        deployment.change(json!({"model": model})).await?;
        let names = |kind, object: &_| condition(object, kind).2.contains("nowhere");
        let seen = deployment.until("a status that names the revision", SEEN_WAIT, |object| {
            ["Accepted", "Progressing", "Degraded"].iter().any(|kind| names(kind, object))
        });
        seen.await?;
        deployment.ask("What is 1 + 2?").await?;
        let model = json!({"source": "embedded://tiny-r1", "revision": null, "endpoint": null});
        deployment.change(json!({"model": model})).await?;
        deployment.rolled().await
    };
    scene.under_traffic(&deployment, Reconnects::Forbidden, bad).await?;
    let after = deployment.uids(Component::Agent).await?;
    ensure!(before == after, "agents of the good model were touched: {before:?}, {after:?}");
    Ok(())
}
