//! The Kubernetes substrate and its controller: ModelDeployments in, pods that serve them out.

pub mod certificates;
pub mod deployment_metrics;
pub mod monitoring;
pub mod prices;
pub mod rbac;
pub mod render;
