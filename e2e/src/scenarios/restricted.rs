//! No pod of ours needs a right that a strict cluster does not give.

use crate::kube;
use crate::scenario::SYSTEM;
use crate::scenario::{Length, Needs, Scenario, Scene};
use anyhow::{Result, ensure};

pub const SCENARIO: Scenario = Scenario {
    name: "restricted",
    summary: "pods run where Pod Security says restricted, and nothing warns",
    needs: Needs::Nothing,
    length: Length::Long,
    play: |scene| Box::pin(play(scene)),
};

async fn play(scene: &Scene) -> Result<()> {
    scene.deployed().await?;
    for namespace in [scene.namespace.as_str(), SYSTEM] {
        // The API server checks what runs against the label and warns of each pod that breaks it.
        for mode in ["enforce", "warn", "audit"] {
            let label = format!("pod-security.kubernetes.io/{mode}=restricted");
            let arguments = ["label", "--overwrite", "--dry-run=server", "--warnings-as-errors"];
            kube::kubectl(&[&arguments[..], &["namespace", namespace, &label]].concat()).await?;
        }
        let pods = kube::json(&["get", "pods", "--namespace", namespace]).await?;
        for pod in pods["items"].as_array().into_iter().flatten() {
            let name = crate::scenario::name_of(pod);
            for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
                let context = &container["securityContext"];
                ensure!(context["readOnlyRootFilesystem"] == true, "{name}: {context}");
                ensure!(context["allowPrivilegeEscalation"] == false, "{name}: {context}");
            }
            ensure!(
                pod["spec"]["automountServiceAccountToken"] == false || namespace == SYSTEM,
                "{name} is given a token that it does not need"
            );
        }
    }
    Ok(())
}
