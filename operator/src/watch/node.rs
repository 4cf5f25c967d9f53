//! A node → what the substrate must know of it. Pure.

use super::cache::{Entry, Owner};
use super::quantity::bytes;
use k8s_openapi::api::core::v1::Node;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    pub health: NodeHealth,
    /// Memory that pods may use together.
    pub memory_bytes: Option<u64>,
}

/// What the control plane thinks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeHealth {
    Ready,
    /// Its kubelet reports trouble, or nothing any more.
    NotReady,
}

/// Parses a node.
pub fn parse(node: Node) -> Option<Entry<NodeFacts>> {
    let status = node.status.unwrap_or_default();
    let ready = status.conditions.iter().flatten().find(|it| it.type_ == "Ready");
    let health = match ready {
        Some(condition) if condition.status == "True" => NodeHealth::Ready,
        Some(_) | None => NodeHealth::NotReady,
    };
    let memory = status.allocatable.as_ref().and_then(|all| all.get("memory"));
    let facts = NodeFacts { health, memory_bytes: memory.and_then(|memory| bytes(&memory.0)) };
    Some(Entry { owner: Owner::Cluster, name: node.metadata.name?, facts })
}
