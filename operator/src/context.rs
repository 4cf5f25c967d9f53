//! What every deployment's task shares.

use crate::deployment_metrics::DeploymentMetrics;
use crate::identity::Authority;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::watch::{Caches, Wakes};
use kube::Client;
use std::sync::Arc;

/// Shared by all tasks; they change nothing of it but through its parts.
pub struct Context {
    /// Writes only while this replica leads.
    pub client: Client,
    pub settings: Settings,
    pub caches: Arc<Caches>,
    pub wakes: Wakes,
    pub metrics: Metrics,
    /// Every deployment's status as numbers.
    pub shown: DeploymentMetrics,
    /// Who certifies agents, routers and the operator.
    pub authority: Authority,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}
