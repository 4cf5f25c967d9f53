//! The Kubernetes substrate and its controller: ModelDeployments in, pods that serve them out.

pub mod certificates;
pub mod rbac;
pub mod render;
