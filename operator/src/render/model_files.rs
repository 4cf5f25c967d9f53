//! How a model's files reach an agent: variables for those it fetches, volumes for those that the cluster mounts.

use super::Target;
use super::pods::{mount, variable};
use crds::ModelSource;
use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, ImageVolumeSource, PersistentVolumeClaimVolumeSource, SecretEnvSource,
    Volume, VolumeMount,
};

/// Where claims and images with models are mounted.
const MODEL_MOUNT: &str = "/models";
const MODEL_VOLUME: &str = "model";

/// An agent's variables about its model.
pub(super) fn variables(target: &Target) -> Vec<EnvVar> {
    let mut variables = vec![variable("BOYLE_MODEL_SOURCE", target.request.source.to_string())];
    if !target.request.revision.is_empty() {
        variables.push(variable("BOYLE_MODEL_REVISION", target.request.revision.clone()));
    }
    if volume(target).is_some() {
        variables.push(variable("BOYLE_MODEL_MOUNT", MODEL_MOUNT));
    }
    if let Some(endpoint) = &target.endpoint {
        variables.push(variable("BOYLE_MODEL_ENDPOINT", endpoint.clone()));
    }
    variables
}

/// The volume with the model's files, when the cluster mounts them.
pub(super) fn volume(target: &Target) -> Option<(Volume, VolumeMount)> {
    let mut volume = Volume { name: MODEL_VOLUME.to_owned(), ..Volume::default() };
    match &target.request.source {
        ModelSource::PersistentVolumeClaim { claim, .. } => {
            volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.clone(),
                read_only: Some(true),
            });
        }
        ModelSource::Oci { reference } => {
            volume.image = Some(ImageVolumeSource {
                reference: Some(reference.clone()),
                // Weights do not change under a name; pulling them again takes minutes.
                pull_policy: Some("IfNotPresent".to_owned()),
            });
        }
        // Fetched by the agent, or on a path that the overlay mounts.
        ModelSource::HuggingFace { .. }
        | ModelSource::S3 { .. }
        | ModelSource::File { .. }
        | ModelSource::Embedded { .. } => return None,
    }
    Some((volume, mount(MODEL_VOLUME, MODEL_MOUNT, Some(true))))
}

/// The Secret whose keys become variables. It is required: the kubelet waits for it and starts the agent when it is
/// there, which an agent that started without it could not do.
pub(super) fn secret_variables(target: &Target) -> Option<Vec<EnvFromSource>> {
    let name = target.secret_name.clone()?;
    let secret_ref = Some(SecretEnvSource { name, optional: None });
    Some(vec![EnvFromSource { secret_ref, ..EnvFromSource::default() }])
}
