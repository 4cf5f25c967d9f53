//! A ModelDeployment → what is to be made for it, or everything that is wrong with it. Pure.

use crate::key::DeploymentKey;
use crate::kubernetes::Wish;
use crate::render::{PodWishes, Target};
use crate::settings::Settings;
use crds::{ModelDeployment, Violation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;

/// What the operator adds to what a person wrote.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub operator_namespace: String,
    /// Image of deployments that name none and have none pinned.
    pub serving_image: String,
}

impl Defaults {
    /// The operator's own.
    pub fn of(settings: &Settings) -> Self {
        Self {
            operator_namespace: settings.namespace.clone(),
            serving_image: settings.serving_image.clone(),
        }
    }
}

/// Checks a deployment.
///
/// # Errors
/// Every violation, each with its field, its value and what to write instead.
pub fn validate(deployment: &ModelDeployment, defaults: &Defaults) -> Result<Wish, Vec<Violation>> {
    let spec = &deployment.spec;
    let request = crds::to_request(deployment);
    let pods = PodWishes::parse(spec.agents.resources.as_ref(), spec.agents.template.as_ref());
    let (request, pods) = match (request, pods) {
        (Ok(request), Ok(pods)) => (request, pods),
        (request, pods) => {
            let mut found = request.err().unwrap_or_default();
            found.extend(pods.err().unwrap_or_default());
            return Err(found);
        }
    };
    let image = image(deployment, defaults);
    let spec = serde_json::to_string(spec).unwrap_or_default();
    let target = Target {
        namespace: deployment.metadata.namespace.clone().unwrap_or_default(),
        owner: deployment.controller_owner_ref(&()).unwrap_or_default(),
        image,
        operator_namespace: defaults.operator_namespace.clone(),
        pods,
        secret_name: deployment.spec.model.secret_name.clone(),
        endpoint: deployment.spec.model.endpoint.clone(),
        request,
    };
    Ok(Wish { target, spec })
}

/// What the person wrote; else what was pinned when the deployment was made, so that another operator's default
/// restarts nothing; else the default.
fn image(deployment: &ModelDeployment, defaults: &Defaults) -> String {
    let pinned = deployment.status.as_ref().and_then(|status| status.image.clone());
    let written = deployment.spec.image.clone();
    written.or(pinned).unwrap_or_else(|| defaults.serving_image.clone())
}

/// Checks a spec that was kept with a group; `None` when this version cannot use it any more.
pub fn validate_spec(
    key: &DeploymentKey,
    spec: &str,
    owner: OwnerReference,
    defaults: &Defaults,
) -> Option<Wish> {
    let spec = serde_json::from_str(spec).ok()?;
    let mut deployment = ModelDeployment::new(key.name(), spec);
    deployment.metadata.namespace = Some(key.namespace().to_owned());
    let mut wish = validate(&deployment, defaults).ok()?;
    wish.target.owner = owner;
    Some(wish)
}
