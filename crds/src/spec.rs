//! What a person writes. The comments are what `kubectl explain mdep.spec` shows.
//!
//! Fields that a type does not have are ignored here, so that an operator can read what a newer one wrote; the API
//! server and [`parse_yaml`](crate::parse_yaml) refuse them.

use crate::schema;
use crate::status::ModelDeploymentStatus;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The only API version there is.
pub const API_VERSION: &str = "boyle.dev/v1alpha1";
/// The only kind there is.
pub const KIND: &str = "ModelDeployment";

/// More machines than any model needs; a larger number is a typing error.
pub const AGENTS_MAX: u32 = 1_024;
/// Beyond this, copies cost memory and add no safety.
pub const COPIES_MAX: u32 = 4;
/// More router replicas than any cluster needs.
pub const ROUTERS_MAX: u32 = 256;
/// Accelerators in one machine.
pub const ACCELERATORS_MAX: u32 = 64;
/// Shorter contexts hold no useful prompt and answer.
pub const CONTEXT_LENGTH_MIN: u32 = 16;
/// Longer than any model's limit; a larger number is a typing error.
pub const CONTEXT_LENGTH_MAX: u32 = 16_777_216;
/// Longest text that is read as an address (source, endpoint, image): bounds what checking it costs.
pub const ADDRESS_LENGTH_MAX: u32 = 512;
/// Longest branch, tag or name of an object.
pub const NAME_TEXT_LENGTH_MAX: u32 = 253;
/// Longest duration or price as text.
pub const QUANTITY_LENGTH_MAX: u32 = 20;

/// What to serve, and with what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "boyle.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    plural = "modeldeployments",
    shortname = "mdep",
    category = "boyle",
    namespaced,
    schema = "manual",
    status = "ModelDeploymentStatus",
    derive = "PartialEq",
    doc = "One served model, as the cluster keeps it.",
    scale(
        spec_replicas_path = ".spec.agents.min",
        status_replicas_path = ".status.agents.desired",
        label_selector_path = ".status.selector"
    ),
    printcolumn = r#"{"name":"PHASE","type":"string","jsonPath":".status.phase","description":"The conditions in one word"}"#,
    printcolumn = r#"{"name":"AGENTS","type":"string","jsonPath":".status.agents.summary","description":"Agents that are ready, of those desired"}"#,
    printcolumn = r#"{"name":"EXPERTS","type":"string","jsonPath":".status.experts.summary","description":"Routed experts in memory, of all, and the fewest copies"}"#,
    printcolumn = r#"{"name":"TOK/S","type":"string","jsonPath":".status.tokensPerSecond","description":"Answer tokens a second over all agents"}"#,
    printcolumn = r#"{"name":"COST/MTOK","type":"string","jsonPath":".status.costPerMillionTokens","description":"Measured cost of a million tokens"}"#,
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url","description":"Base URL for clients inside the cluster"}"#,
    printcolumn = r#"{"name":"AGE","type":"date","jsonPath":".metadata.creationTimestamp","description":"Time since it was created"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentSpec {
    /// Which model is served, and how it is run. A change loads the new model on agents beside the old ones, switches
    /// the routers, then drains the old agents.
    pub model: Model,
    /// The agents: the machines that hold the model and compute.
    #[serde(default)]
    pub agents: Agents,
    /// How many machines hold each routed expert.
    #[serde(default)]
    pub experts: Experts,
    /// The routers: the replicas of the HTTP front that clients talk to.
    #[serde(default)]
    pub router: Router,
    /// Response times that autoscaling between agents.min and agents.max aims at.
    #[serde(default)]
    pub objectives: Objectives,
    /// Prices, from which status.costPerMillionTokens and the dashboards are computed. Nothing is computed when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Image that agents and routers run, for example "registry.example.com/boyle/serving:1.2.3". When absent, the
    /// operator's image at the time of creation, kept in status.image, so that an upgrade of the operator restarts no
    /// agent. Agents are restarted one after another, drained first, when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = ADDRESS_LENGTH_MAX))]
    pub image: Option<String>,
}

/// Where the model comes from and how it is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Where the checkpoint (safetensors, config.json, tokeniser) is. One of "hf://owner/name" (Hugging Face or another
    /// hub that speaks its protocol), "pvc://claim/path" (a PersistentVolumeClaim of this namespace),
    /// "s3://bucket/path", "oci://registry/repository:tag" (an image volume), "file:///folder" (on the nodes), or
    /// "embedded://tiny-r1" (a toy model inside the image).
    #[schemars(length(min = 1, max = ADDRESS_LENGTH_MAX))]
    pub source: String,
    /// Branch, tag or commit of an hf:// source, main when absent. Write a commit to keep serving the same weights when
    /// the branch moves. Only for hf://.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME_TEXT_LENGTH_MAX))]
    pub revision: Option<String>,
    /// How weights are kept in memory. "auto" takes what the checkpoint and the machine suggest.
    #[serde(default)]
    pub precision: Precision,
    /// Longest sequence in tokens, prompt and answer together, for example 32768. The model's own limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = CONTEXT_LENGTH_MIN, max = CONTEXT_LENGTH_MAX))]
    pub context_length: Option<u32>,
    /// Secret of this namespace whose keys the agents get as environment variables: HF_TOKEN for hf://;
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION for s3://. Only for these two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME_TEXT_LENGTH_MAX))]
    pub secret_name: Option<String>,
    /// URL of the hub or object store when it is not the public one, for example "https://hub.example.com". Only for
    /// hf:// and s3://.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = ADDRESS_LENGTH_MAX))]
    pub endpoint: Option<String>,
}

/// How weights are kept in memory.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    Auto,
    Fp8,
    Bf16,
    Int8,
    Int4,
}

/// The pool of node agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agents {
    /// Fewest agents. 0 lets the deployment sleep while nobody uses it: the router holds requests while an agent
    /// wakes. `kubectl scale mdep` changes this field.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = AGENTS_MAX))]
    pub min: u32,
    /// Most agents. When absent there are exactly agents.min (1 when that is 0) and no autoscaling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = AGENTS_MAX))]
    pub max: Option<u32>,
    /// How long load must stay low before an agent is drained and taken away, for example "5m".
    #[serde(default = "scale_down_delay")]
    #[schemars(length(min = 2, max = QUANTITY_LENGTH_MAX))]
    pub scale_down_delay: String,
    /// How long no request may have come before the last agents are taken away, for example "10m", which it is when
    /// absent. Only with agents.min 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = QUANTITY_LENGTH_MAX))]
    pub sleep_after: Option<String>,
    /// Devices of each agent. The processor computes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Accelerator>,
    /// Requests and limits of each agent's container, as in any Pod; the accelerator is added to them. The memory
    /// limit is what the agent plans with: weights, KV cache and buffers fit in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::resources")]
    pub resources: Option<Map<String, Value>>,
    /// Overlay for the agents' pod template, merged like a strategic patch: nodeSelector, tolerations, affinity,
    /// volumes, labels, and the container named "agent" for env, volumeMounts or securityContext. Other containers run
    /// beside the agent and need an image. What Boyle decides (service account, command, ports, names of the pods)
    /// cannot be overlaid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::template")]
    pub template: Option<Map<String, Value>>,
}

fn one() -> u32 {
    1
}

/// Long enough that a pause between two bursts moves no weights.
fn scale_down_delay() -> String {
    "5m".to_owned()
}

impl Default for Agents {
    fn default() -> Self {
        Self {
            min: one(),
            max: None,
            scale_down_delay: scale_down_delay(),
            sleep_after: None,
            accelerator: None,
            resources: None,
            template: None,
        }
    }
}

/// Devices of each agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accelerator {
    /// Extended resource with its domain, for example "nvidia.com/gpu".
    #[schemars(length(min = 1, max = NAME_TEXT_LENGTH_MAX))]
    pub resource: String,
    /// How many of them each agent gets, for example 8.
    #[schemars(range(min = 1, max = ACCELERATORS_MAX))]
    pub count: u32,
}

/// Redundancy of the routed experts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Experts {
    /// Copies of each routed expert, on different hosts. With 1, losing a machine stalls requests until its experts
    /// are loaded elsewhere; with 2 they go on at once.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = COPIES_MAX))]
    pub copies: u32,
}

impl Default for Experts {
    fn default() -> Self {
        Self { copies: one() }
    }
}

/// The pool of routers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Router {
    /// Fewest routers. 2 or more keep the URL up when a machine is lost.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = ROUTERS_MAX))]
    pub min: u32,
    /// Most routers. When absent there are exactly router.min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = ROUTERS_MAX))]
    pub max: Option<u32>,
}

impl Default for Router {
    fn default() -> Self {
        Self { min: one(), max: None }
    }
}

/// What autoscaling aims at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Objectives {
    /// Longest time from a request to its first token, for example "2s".
    #[serde(default = "time_to_first_token")]
    #[schemars(length(min = 2, max = QUANTITY_LENGTH_MAX))]
    pub time_to_first_token: String,
    /// Longest time between two tokens of one answer, for example "50ms".
    #[serde(default = "time_per_output_token")]
    #[schemars(length(min = 2, max = QUANTITY_LENGTH_MAX))]
    pub time_per_output_token: String,
}

/// What people wait for without looking away.
fn time_to_first_token() -> String {
    "2s".to_owned()
}

/// Twice as fast as people read.
fn time_per_output_token() -> String {
    "50ms".to_owned()
}

impl Default for Objectives {
    fn default() -> Self {
        Self {
            time_to_first_token: time_to_first_token(),
            time_per_output_token: time_per_output_token(),
        }
    }
}

/// What the machines cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Price of one accelerator for one hour, or of one agent without accelerators, for example "2.00". Text, so that
    /// no digit is lost; at most six after the point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = QUANTITY_LENGTH_MAX))]
    pub accelerator_hour: Option<String>,
    /// ISO 4217 code of the currency that prices are in, for example "EUR".
    #[serde(default = "dollars")]
    #[schemars(length(min = 3, max = 3))]
    pub currency: String,
    /// Reference API whose list price for the same tokens stands beside the measured cost, as vendor/model, for example
    /// "openai/o1".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = NAME_TEXT_LENGTH_MAX))]
    pub compare_with: Option<String>,
}

fn dollars() -> String {
    "USD".to_owned()
}
