//! [`ModelDeployment`] → [`DeploymentRequest`]: pure, and every violation at once.

use crate::check;
use crate::quantity::Decimal;
use crate::source::ModelSource;
use crate::spec::{Accelerator, ModelDeployment, ModelDeploymentSpec, Precision};
use crate::violation::Violation;
use planner::identity::DeploymentName;
use planner::spec::AgentRange;
use serde_json::{Map, Value};
use std::num::NonZeroU32;
use std::time::Duration;

/// Everything a deployment asks for, checked, defaults filled in; only the model's own facts are missing.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentRequest {
    pub name: DeploymentName,
    /// `None`: a manifest that names none.
    pub namespace: Option<String>,
    pub source: ModelSource,
    /// Branch, tag or commit of an hf:// source; empty for the others, which have none.
    pub revision: String,
    pub precision: Precision,
    /// `None`: the model's own limit.
    pub context_length: Option<NonZeroU32>,
    pub secret_name: Option<String>,
    /// `None`: the public hub or store.
    pub endpoint: Option<String>,
    /// `None`: the operator's.
    pub image: Option<String>,
    pub agents: AgentRange,
    pub scale_down_delay: Duration,
    /// `None`: it never sleeps.
    pub sleep_after: Option<Duration>,
    pub accelerator: Option<Accelerator>,
    pub resources: Option<Map<String, Value>>,
    pub template: Option<Map<String, Value>>,
    pub copies: NonZeroU32,
    pub router: ReplicaRange,
    pub objectives: ObjectivesRequest,
    pub cost: CostRequest,
}

/// How many replicas there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaRange {
    pub min: u32,
    pub max: u32,
}

/// What autoscaling aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectivesRequest {
    pub time_to_first_token: Duration,
    pub time_per_output_token: Duration,
}

/// Prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostRequest {
    /// `None`: cost is not computed.
    pub accelerator_hour: Option<Decimal>,
    pub currency: String,
    pub compare_with: Option<String>,
}

/// Checks a resource.
///
/// # Errors
/// Every [`Violation`] there is, in the order of the fields.
pub fn to_request(deployment: &ModelDeployment) -> Result<DeploymentRequest, Vec<Violation>> {
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    check(name, deployment.metadata.namespace.as_deref(), &deployment.spec)
}

pub(crate) fn check(
    name: &str,
    namespace: Option<&str>,
    spec: &ModelDeploymentSpec,
) -> Result<DeploymentRequest, Vec<Violation>> {
    let mut found = Vec::new();
    check::name(name, &mut found);
    let source = check::model::source(&spec.model, &mut found);
    let revision = check::model::revision(&spec.model, source.as_ref(), &mut found);
    let context_length = check::model::context_length(&spec.model, &mut found);
    check::model::access(&spec.model, source.as_ref(), &mut found);
    let agents = check::agents::range(&spec.agents, &mut found);
    let scale_down_delay = check::agents::scale_down_delay(&spec.agents, &mut found);
    let sleep_after = check::agents::sleep_after(&spec.agents, &mut found);
    check::agents::accelerator(&spec.agents, &mut found);
    check::pods::resources(&spec.agents, &mut found);
    check::pods::template(&spec.agents, &mut found);
    let copies = check::copies(spec.experts.copies, agents, &mut found);
    let router = check::router(&spec.router, &mut found);
    let objectives = check::objectives(&spec.objectives, &mut found);
    let cost = check::cost(spec.cost.as_ref(), &mut found);
    check::image(spec.image.as_deref(), &mut found);
    match (source, copies) {
        (Some(source), Some(copies)) if found.is_empty() => Ok(DeploymentRequest {
            name: DeploymentName::new(name.to_owned()),
            namespace: namespace.map(str::to_owned),
            source,
            revision,
            precision: spec.model.precision,
            context_length,
            secret_name: spec.model.secret_name.clone(),
            endpoint: spec.model.endpoint.clone(),
            image: spec.image.clone(),
            agents,
            scale_down_delay,
            sleep_after,
            accelerator: spec.agents.accelerator.clone(),
            resources: spec.agents.resources.clone(),
            template: spec.agents.template.clone(),
            copies,
            router,
            objectives,
            cost,
        }),
        _ => Err(found),
    }
}
