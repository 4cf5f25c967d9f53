//! The scale subresource.

use crate::kube;
use crate::scenario::Component;
use crate::scenario::{Length, Needs, Scenario, Scene};
use anyhow::{Result, ensure};

pub const SCENARIO: Scenario = Scenario {
    name: "kubectl-scale",
    summary: "kubectl scale changes the number of agents",
    needs: Needs::Nothing,
    length: Length::Long,
    play: |scene| Box::pin(play(scene)),
};

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    for count in [4, 3] {
        let replicas = format!("--replicas={count}");
        let namespace = ["--namespace", &scene.namespace];
        let arguments = ["scale", "modeldeployment", &deployment.name, &replicas];
        kube::kubectl(&[&arguments[..], &namespace].concat()).await?;
        deployment.rolled().await?;
        deployment.until_count(Component::Agent, count).await?;
        let path = format!(
            "/apis/boyle.dev/v1alpha1/namespaces/{}/modeldeployments/{}/scale",
            scene.namespace, deployment.name
        );
        let scale: serde_json::Value =
            serde_json::from_str(&kube::kubectl(&["get", "--raw", &path]).await?)?;
        ensure!(scale["status"]["replicas"] == count as u64, "{scale}");
        ensure!(scale["status"]["selector"].as_str().is_some_and(|s| !s.is_empty()), "{scale}");
    }
    Ok(())
}
