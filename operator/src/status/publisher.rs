//! The status → the API server, when it says something new. Numbers that always move are written seldom.

use crate::apply::ApplyError;
use crate::key::{DeploymentKey, MANAGER};
use crate::watch::Kind;
use crds::{ModelDeployment, ModelDeploymentStatus};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// Rates, costs, bytes and messages move all the time; people read them every few seconds at most.
const NUMBERS_EVERY: Duration = Duration::from_secs(10);

/// Writes one deployment's status.
pub struct Publisher {
    api: Api<ModelDeployment>,
    key: DeploymentKey,
    written: ModelDeploymentStatus,
    written_at: Option<Instant>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Publisher").field("key", &self.key).finish_non_exhaustive()
    }
}

/// When the next look may lead to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Everything is written.
    Never,
    /// Numbers wait until then.
    At(Instant),
}

impl Publisher {
    /// `written` is what the API server has.
    pub fn new(client: Client, key: &DeploymentKey, written: ModelDeploymentStatus) -> Self {
        let api = Api::namespaced(client, key.namespace());
        Self { api, key: key.clone(), written, written_at: None }
    }

    /// What the API server has.
    pub fn written(&self) -> &ModelDeploymentStatus {
        &self.written
    }

    /// Writes the status if it is time.
    ///
    /// # Errors
    /// The API server's; the next call tries again.
    pub async fn publish(&mut self, status: ModelDeploymentStatus) -> Result<Due, ApplyError> {
        if status == self.written {
            return Ok(Due::Never);
        }
        let quiet_until = self.written_at.map(|at| at + NUMBERS_EVERY);
        if let Some(until) = quiet_until.filter(|until| Instant::now() < *until)
            && without_numbers(&status) == without_numbers(&self.written)
        {
            return Ok(Due::At(until));
        }
        let body = json!({
            "apiVersion": crds::API_VERSION,
            "kind": crds::KIND,
            "metadata": {"name": self.key.name()},
            "status": status,
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let written =
            self.api.patch_status(self.key.name(), &parameters, &Patch::Apply(&body)).await;
        match written {
            Ok(_) => {
                self.written = status;
                self.written_at = Some(Instant::now());
                Ok(Due::Never)
            }
            Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(Due::Never),
            Err(error) => Err(ApplyError::of(Kind::ModelDeployment, self.key.name(), &error)),
        }
    }
}

/// The part that is written as soon as it changes.
fn without_numbers(status: &ModelDeploymentStatus) -> ModelDeploymentStatus {
    let mut rest = status.clone();
    rest.tokens_per_second = None;
    rest.cost_per_million_tokens = None;
    rest.experts = None;
    for condition in &mut rest.conditions {
        condition.message.clear();
    }
    for detail in &mut rest.agent_details {
        detail.message.clear();
    }
    if let Some(rollout) = &mut rest.rollout {
        rollout.message.clear();
    }
    rest
}
