//! The ModelDeployment resource: its types, its YAML, and the pure step to a checked request.
//!
//! Knows no cluster; what a deployment asks for beyond the model's own facts is in [`DeploymentRequest`].

mod deployment;
mod parse;
mod quantity;
mod request;
mod source;
mod violation;

pub use deployment::{
    API_VERSION, Accelerator, Agents, Cost, Experts, KIND, Metadata, Model, ModelDeployment,
    ModelDeploymentSpec, Objectives, Precision, Router,
};
pub use parse::{MANIFEST_BYTES_MAX, ParseError, parse_yaml};
pub use quantity::{Decimal, QuantityError, parse_duration};
pub use request::{CostRequest, DeploymentRequest, ObjectivesRequest, ReplicaRange, to_request};
pub use source::{ModelSource, SourceError};
pub use violation::Violation;
