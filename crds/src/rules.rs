//! What the API server checks beyond types and bounds, in CEL. [`crate::to_request`] refuses the same.

use serde_json::Value;

/// The container of an agent's pod that is the agent.
pub const AGENT_CONTAINER: &str = "agent";

/// A field that Boyle decides, and what to write instead.
pub(crate) struct Reserved {
    pub(crate) name: &'static str,
    pub(crate) remedy: &'static str,
}

/// Fields of the agents' pods that an overlay may not touch.
pub(crate) const POD_FIELDS_RESERVED: &[Reserved] = &[
    Reserved {
        name: "serviceAccountName",
        remedy: "leave it out and annotate the deployment's own service account, NAME-agent",
    },
    Reserved {
        name: "serviceAccount",
        remedy: "leave it out and annotate the deployment's own service account, NAME-agent",
    },
    Reserved {
        name: "automountServiceAccountToken",
        remedy: "leave it out; agents do not talk to the API server",
    },
    Reserved { name: "restartPolicy", remedy: "leave it out; agents are always restarted" },
    Reserved { name: "hostname", remedy: "leave it out; agents are found by their pods' names" },
    Reserved { name: "subdomain", remedy: "leave it out; agents are found by their pods' names" },
];

/// Fields of the container named "agent" that an overlay may not touch.
pub(crate) const AGENT_FIELDS_RESERVED: &[Reserved] = &[
    Reserved { name: "image", remedy: "leave it out and write the image in spec.image" },
    Reserved { name: "command", remedy: "leave it out; write env to set what the agent reads" },
    Reserved { name: "args", remedy: "leave it out; write env to set what the agent reads" },
    Reserved { name: "resources", remedy: "leave it out and write them in spec.agents.resources" },
    Reserved { name: "ports", remedy: "leave it out; routers and peers know the agent's ports" },
];

/// Prefixes of labels and annotations by which Boyle finds its pods.
pub(crate) const RESERVED_DOMAINS: &[&str] = &["boyle.dev/", "app.kubernetes.io/"];
/// Prefix of the variables by which the operator tells an agent who it is.
pub(crate) const RESERVED_VARIABLES: &str = "BOYLE_";

/// Puts the rules into the resource's schema.
pub(crate) fn add(_schema: &mut Value) {}
