//! The resource as it is written; nothing is checked here but types and field names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The only API version there is.
pub const API_VERSION: &str = "boyle.dev/v1alpha1";
/// The only kind there is.
pub const KIND: &str = "ModelDeployment";

/// One served model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelDeployment {
    /// `boyle.dev/v1alpha1`.
    pub api_version: String,
    /// `ModelDeployment`.
    pub kind: String,
    pub metadata: Metadata,
    pub spec: ModelDeploymentSpec,
}

/// The part of Kubernetes' object metadata that means something outside a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Also the name that clients send as `model`.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What to serve and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelDeploymentSpec {
    pub model: Model,
    #[serde(default)]
    pub agents: Agents,
    #[serde(default)]
    pub experts: Experts,
    #[serde(default)]
    pub router: Router,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectives: Option<Objectives>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// Where the model comes from and how it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Model {
    /// `hf://owner/name`, `pvc://claim/path`, `s3://bucket/path`, `oci://image`, `file:///folder` or
    /// `embedded://name`.
    pub source: String,
    /// Branch, tag or commit of an `hf://` source.
    #[serde(default = "main_revision")]
    pub revision: String,
    #[serde(default)]
    pub precision: Precision,
    /// Longest sequence in tokens, prompt and answer together. The model's own limit when absent or larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
}

fn main_revision() -> String {
    "main".to_owned()
}

/// How weights are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// What the checkpoint and the machine suggest.
    #[default]
    Auto,
    Fp8,
    Bf16,
    Int8,
    Int4,
}

/// The pool of node agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Agents {
    /// 0 lets the deployment sleep; the router holds requests while it wakes.
    #[serde(default = "one")]
    pub min: u32,
    /// `min`, or 1 when that is 0, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// The processor when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Accelerator>,
    /// The pod's own resource requirements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<serde_json::Map<String, serde_json::Value>>,
    /// Overlay for the agents' pod template: nodeSelector, tolerations, volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<serde_json::Map<String, serde_json::Value>>,
}

fn one() -> u32 {
    1
}

impl Default for Agents {
    fn default() -> Self {
        Self { min: one(), max: None, accelerator: None, resources: None, template: None }
    }
}

/// Devices of each agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Accelerator {
    /// Extended resource, `nvidia.com/gpu` for example.
    pub resource: String,
    pub count: u32,
}

/// Redundancy of the routed experts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Experts {
    /// Copies of each routed expert on different hosts: 1 reloads on loss, 2 goes on without a stall.
    #[serde(default = "one")]
    pub copies: u32,
}

impl Default for Experts {
    fn default() -> Self {
        Self { copies: one() }
    }
}

/// The pool of routers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Router {
    #[serde(default = "one")]
    pub min: u32,
    /// `min` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

impl Default for Router {
    fn default() -> Self {
        Self { min: one(), max: None }
    }
}

/// What autoscaling aims at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Objectives {
    /// `2s`, `500ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_first_token: Option<String>,
    /// `50ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_per_output_token: Option<String>,
}

/// What the machines cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cost {
    /// Price of one accelerator (of one agent without accelerators) for an hour: `"2.00"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator_hour: Option<String>,
    /// ISO 4217 code.
    #[serde(default = "dollars")]
    pub currency: String,
    /// Reference API whose list price stands beside: `openai/o1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare_with: Option<String>,
}

fn dollars() -> String {
    "USD".to_owned()
}
