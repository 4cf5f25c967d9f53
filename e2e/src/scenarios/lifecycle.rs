//! The life of a release.

use crate::kube;
use crate::scenario::{Component, SYSTEM, operator};
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use anyhow::{Result, ensure};

pub const SCENARIO: Scenario = Scenario {
    name: "lifecycle",
    summary: "upgrade, rollback and uninstall of the chart; nothing is left behind",
    needs: Needs::Nothing,
    length: Length::Long,
    play: |scene| Box::pin(play(scene)),
};

/// What a deployment or the chart may make, wherever it is.
const KINDS: &str = "statefulsets,deployments,services,configmaps,secrets,serviceaccounts,pods,\
    poddisruptionbudgets,networkpolicies,roles,rolebindings,leases";

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    let before = deployment.uids(Component::Agent).await?;
    let life = async {
        let (operator, serving) = (&scene.images.operator, &scene.images.serving);
        operator::install_with(operator, serving, &["--set=log=debug"]).await?;
        let rollback = ["rollback", operator::RELEASE, "--namespace", SYSTEM, "--wait"];
        kube::helm(&rollback).await?;
        kube::helm(&["test", operator::RELEASE, "--namespace", SYSTEM]).await?;
        operator::uninstall().await?;
        dry_run().await?;
        // Serving does not need the operator.
        deployment.ask("What is 1 + 2?").await?;
        operator::install(&scene.images).await?;
        deployment.recovered().await
    };
    scene.under_traffic(&deployment, Reconnects::Forbidden, life).await?;
    ensure!(before == deployment.uids(Component::Agent).await?, "agents were replaced");
    deployment.delete().await?;
    let selector = format!("boyle.dev/model-deployment={}", deployment.name);
    let arguments = ["get", KINDS, "--namespace", &scene.namespace, "--selector", &selector];
    gone(&[&arguments[..], &["--output", "name"]].concat()).await?;
    // Nothing of the first one may be mistaken for the second one's.
    let second = scene.deployed().await?;
    second.delete().await?;
    operator::uninstall().await?;
    let selector = "app.kubernetes.io/name=boyle";
    let arguments = ["get", KINDS, "--namespace", SYSTEM, "--selector", selector];
    gone(&[&arguments[..], &["--output", "name"]].concat()).await?;
    let kinds = "clusterroles,clusterrolebindings";
    gone(&["get", kinds, "--selector", selector, "--output", "name"]).await
}

/// The way of those who do not use helm.
async fn dry_run() -> Result<()> {
    let chart = operator::chart().display().to_string();
    let template = ["template", "boyle", &chart, "--namespace", SYSTEM, "--skip-tests"];
    let rendered = kube::helm(&template).await?;
    let arguments = ["apply", "--dry-run=server", "--namespace", SYSTEM, "--filename", "-"];
    let wait = std::time::Duration::from_secs(60);
    let said = kube::run("kubectl", &arguments, Some(rendered), wait).await?;
    ensure!(said.lines().count() > 5, "{said}");
    Ok(())
}

/// Waits until a list is empty: owners' objects are collected in the background.
async fn gone(list: &[&str]) -> Result<()> {
    crate::waiting::until("nothing left", std::time::Duration::from_secs(60), async || {
        let left = kube::kubectl(list).await?;
        ensure!(left.trim().is_empty(), "left behind:\n{left}");
        Ok(())
    })
    .await
}
