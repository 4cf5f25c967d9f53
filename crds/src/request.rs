//! [`ModelDeployment`] → [`DeploymentRequest`]: pure, and every violation at once.

use crate::deployment::{
    API_VERSION, Accelerator, KIND, ModelDeployment, ModelDeploymentSpec, Precision,
};
use crate::quantity::{Decimal, parse_duration};
use crate::source::ModelSource;
use crate::violation::Violation;
use planner::identity::DeploymentName;
use planner::spec::AgentRange;
use std::num::NonZeroU32;
use std::time::Duration;

/// Kubernetes refuses longer names of objects that become Services.
const NAME_LENGTH_MAX: usize = 63;
/// More machines than any model needs; a larger number is a typing error.
const AGENTS_MAX: u32 = 1_024;
/// Beyond this, copies cost memory and add no safety.
const COPIES_MAX: u32 = 4;
/// More router replicas than any cluster needs.
const ROUTERS_MAX: u32 = 256;
/// Accelerators in one machine.
const ACCELERATORS_MAX: u32 = 64;
/// Shorter contexts hold no useful prompt and answer.
const CONTEXT_LENGTH_MIN: u32 = 16;

/// Everything a deployment asks for, checked, defaults filled in; only the model's own facts are missing.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentRequest {
    pub name: DeploymentName,
    pub source: ModelSource,
    pub revision: String,
    pub precision: Precision,
    /// `None`: the model's own limit.
    pub context_length: Option<NonZeroU32>,
    pub agents: AgentRange,
    pub accelerator: Option<Accelerator>,
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

/// Objectives of a deployment that names none.
const DEFAULT_OBJECTIVES: ObjectivesRequest = ObjectivesRequest {
    time_to_first_token: Duration::from_secs(2),
    time_per_output_token: Duration::from_millis(50),
};

/// Checks a resource.
///
/// # Errors
/// Every [`Violation`] there is, in the order of the fields.
pub fn to_request(deployment: &ModelDeployment) -> Result<DeploymentRequest, Vec<Violation>> {
    let mut found = Vec::new();
    let ModelDeployment { api_version, kind, metadata, spec } = deployment;
    if api_version != API_VERSION {
        found.push(Violation::new("apiVersion", api_version, format!("write {API_VERSION}")));
    }
    if kind != KIND {
        found.push(Violation::new("kind", kind, format!("write {KIND}")));
    }
    check_name(&metadata.name, &mut found);
    let source = ModelSource::parse(&spec.model.source).map_err(|error| {
        found.push(Violation::new("spec.model.source", &spec.model.source, error));
    });
    check_revision(&spec.model.revision, &mut found);
    let context_length = context_length(spec.model.context_length, &mut found);
    let agents = agent_range(spec, &mut found);
    let copies = copies(spec.experts.copies, &mut found);
    let router = router_range(spec, &mut found);
    let objectives = objectives(spec, &mut found);
    let cost = cost(spec, &mut found);
    match (source, copies) {
        (Ok(source), Some(copies)) if found.is_empty() => Ok(DeploymentRequest {
            name: DeploymentName::new(metadata.name.clone()),
            source,
            revision: spec.model.revision.clone(),
            precision: spec.model.precision,
            context_length,
            agents,
            accelerator: spec.agents.accelerator.clone(),
            copies,
            router,
            objectives,
            cost,
        }),
        _ => Err(found),
    }
}

/// RFC 1123 label: lower-case letters, digits and hyphens, a letter or digit at both ends.
fn check_name(name: &str, found: &mut Vec<Violation>) {
    let allowed = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    let edge =
        |it: Option<&u8>| it.is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
    let bytes = name.as_bytes();
    let good = edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|it| allowed(*it));
    if !good || bytes.len() > NAME_LENGTH_MAX {
        let remedy = format!(
            "write 1 to {NAME_LENGTH_MAX} lower-case letters, digits and hyphens, with a letter or digit at both ends"
        );
        found.push(Violation::new("metadata.name", name, remedy));
    }
}

fn check_revision(revision: &str, found: &mut Vec<Violation>) {
    let good = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.' | '/');
    if revision.is_empty() || !revision.chars().all(good) || revision.contains("..") {
        let remedy = "write a branch, tag or commit, main for example";
        found.push(Violation::new("spec.model.revision", revision, remedy));
    }
}

fn context_length(asked: Option<u32>, found: &mut Vec<Violation>) -> Option<NonZeroU32> {
    let asked = asked?;
    if asked < CONTEXT_LENGTH_MIN {
        let remedy = format!(
            "write at least {CONTEXT_LENGTH_MIN}, or leave it out for the model's own limit"
        );
        found.push(Violation::new("spec.model.contextLength", asked, remedy));
    }
    NonZeroU32::new(asked)
}

fn agent_range(spec: &ModelDeploymentSpec, found: &mut Vec<Violation>) -> AgentRange {
    let agents = &spec.agents;
    let (min, max) = (agents.min, agents.max.unwrap_or(agents.min.max(1)));
    check_range("spec.agents", (min, max), AGENTS_MAX, found);
    if let Some(Accelerator { resource, count }) = &agents.accelerator {
        if !resource.contains('/') || resource.contains(char::is_whitespace) {
            let remedy = "write an extended resource with its domain, nvidia.com/gpu for example";
            found.push(Violation::new("spec.agents.accelerator.resource", resource, remedy));
        }
        if !(1..=ACCELERATORS_MAX).contains(count) {
            let remedy = format!(
                "write 1 to {ACCELERATORS_MAX}, or leave accelerator out for the processor"
            );
            found.push(Violation::new("spec.agents.accelerator.count", count, remedy));
        }
    }
    AgentRange { min, max }
}

/// `most` bounds both ends; the smaller may be 0 only where the caller allows it.
fn check_range(field: &str, (min, max): (u32, u32), most: u32, found: &mut Vec<Violation>) {
    let max_field = format!("{field}.max");
    if max == 0 || max > most {
        found.push(Violation::new(&max_field, max, format!("write 1 to {most}")));
    } else if max < min {
        let remedy = format!("write at least {field}.min, which is {min}, or lower that");
        found.push(Violation::new(&max_field, max, remedy));
    }
}

fn copies(asked: u32, found: &mut Vec<Violation>) -> Option<NonZeroU32> {
    if asked > COPIES_MAX || asked == 0 {
        let remedy =
            format!("write 1 to {COPIES_MAX}: 1 reloads on loss, 2 goes on without a stall");
        found.push(Violation::new("spec.experts.copies", asked, remedy));
    }
    NonZeroU32::new(asked)
}

fn router_range(spec: &ModelDeploymentSpec, found: &mut Vec<Violation>) -> ReplicaRange {
    let (min, max) = (spec.router.min, spec.router.max.unwrap_or(spec.router.min));
    if min == 0 {
        let remedy = "write at least 1; agents may sleep, the router holds their requests";
        found.push(Violation::new("spec.router.min", min, remedy));
    } else {
        check_range("spec.router", (min, max), ROUTERS_MAX, found);
    }
    ReplicaRange { min, max }
}

fn objectives(spec: &ModelDeploymentSpec, found: &mut Vec<Violation>) -> ObjectivesRequest {
    let Some(asked) = &spec.objectives else { return DEFAULT_OBJECTIVES };
    let mut duration = |field: &str, text: &Option<String>, default| {
        let Some(text) = text else { return default };
        match parse_duration(text) {
            Ok(Duration::ZERO) => found.push(Violation::new(field, text, "write more than 0")),
            Ok(duration) => return duration,
            Err(error) => found.push(Violation::new(field, text, error)),
        }
        default
    };
    ObjectivesRequest {
        time_to_first_token: duration(
            "spec.objectives.timeToFirstToken",
            &asked.time_to_first_token,
            DEFAULT_OBJECTIVES.time_to_first_token,
        ),
        time_per_output_token: duration(
            "spec.objectives.timePerOutputToken",
            &asked.time_per_output_token,
            DEFAULT_OBJECTIVES.time_per_output_token,
        ),
    }
}

fn cost(spec: &ModelDeploymentSpec, found: &mut Vec<Violation>) -> CostRequest {
    let Some(asked) = &spec.cost else {
        return CostRequest {
            accelerator_hour: None,
            currency: "USD".to_owned(),
            compare_with: None,
        };
    };
    let mut price = |text: &String| {
        let failed = |error| found.push(Violation::new("spec.cost.acceleratorHour", text, error));
        Decimal::parse(text).map_err(failed).ok()
    };
    let accelerator_hour = asked.accelerator_hour.as_ref().and_then(&mut price);
    let code =
        asked.currency.len() == 3 && asked.currency.bytes().all(|it| it.is_ascii_uppercase());
    if !code {
        let remedy = "write a code of three capital letters, USD for example";
        found.push(Violation::new("spec.cost.currency", &asked.currency, remedy));
    }
    if let Some(reference) = &asked.compare_with
        && !reference
            .split_once('/')
            .is_some_and(|(vendor, model)| !vendor.is_empty() && !model.is_empty())
    {
        let remedy = "write vendor/model, openai/o1 for example";
        found.push(Violation::new("spec.cost.compareWith", reference, remedy));
    }
    let (currency, compare_with) = (asked.currency.clone(), asked.compare_with.clone());
    CostRequest { accelerator_hour, currency, compare_with }
}
