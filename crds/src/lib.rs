//! The ModelDeployment resource: its types, its schema with the rules that the API server checks, its YAML, and the pure
//! step to a checked request.
//!
//! Knows no cluster; what a deployment asks for beyond the model's own facts is in [`DeploymentRequest`].

mod check;
mod condition;
mod manifest;
mod quantity;
mod reference;
mod request;
mod rules;
mod schema;
mod source;
// Its descriptions are what `kubectl explain` prints, where angle brackets around a URL would be noise.
#[allow(rustdoc::bare_urls)]
mod spec;
mod status;
mod strict;
mod violation;

pub use condition::{
    CONDITION_MESSAGE_LENGTH_MAX, Change, ConditionReason, ConditionStatus, ConditionType,
    Observed, cut, update,
};
pub use manifest::{MANIFEST_BYTES_MAX, Manifest, Metadata, ParseError, parse_yaml};
pub use quantity::{Decimal, Quantity, QuantityError, parse_duration};
pub use reference::{DEFINITION_FILE, REFERENCE_FILE, definition, reference};
pub use request::{CostRequest, DeploymentRequest, ObjectivesRequest, ReplicaRange, to_request};
pub use rules::AGENT_CONTAINER;
pub use source::{ModelSource, SourceError};
pub use spec::{
    API_VERSION, Accelerator, Agents, Cost, Experts, KIND, Model, ModelDeployment,
    ModelDeploymentSpec, Objectives, Precision, Router,
};
pub use status::{
    AGENT_DETAILS_MAX, AgentDetail, AgentsStatus, ExpertsStatus, MESSAGE_LENGTH_MAX,
    ModelDeploymentStatus, ModelStatus, Phase, PlanStatus, RolloutStatus, RoutersStatus,
};
pub use violation::{UNREADABLE_FIELD, Violation};
