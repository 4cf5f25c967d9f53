//! Names of things, as types: an agent's name can never be passed for a host's.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            /// Takes the name as it is; syntax is the edge's business.
            pub fn new(name: impl Into<String>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

name!(
    /// One node agent of one deployment. It outlives its process: a replaced process keeps the name.
    AgentId
);
name!(
    /// A failure domain: a machine. Copies of one expert live on different hosts when there are enough.
    HostId
);
name!(
    /// A `ModelDeployment`, which is also the name its model is served under.
    DeploymentName
);

/// One routed expert of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExpertId {
    /// Index of the transformer layer, counted from 0 over dense and MoE layers alike.
    pub layer: u32,
    /// Index of the routed expert inside the layer.
    pub expert: u32,
}

/// Number of a plan; agents and routers refuse older ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);
