//! The status → the API server, when it says something new. Numbers that always move are written seldom.

use crate::apply::ApplyError;
use crate::key::{DeploymentKey, MANAGER};
use crate::watch::Kind;
use crate::watch::deployment::Written;
use crds::ModelDeploymentStatus;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// Rates, costs and bytes move all the time; people read them every few seconds at most.
const NUMBERS_EVERY: Duration = Duration::from_secs(10);

/// Writes one deployment's status.
pub struct Publisher {
    /// Answers may hold a spec of another version.
    api: Api<Written>,
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
        condition.message = without_standing_numbers(&condition.message);
    }
    for detail in &mut rest.agent_details {
        detail.message = without_standing_numbers(&detail.message);
    }
    if let Some(rollout) = &mut rest.rollout {
        rollout.message = without_standing_numbers(&rollout.message);
    }
    rest
}

/// Who is lost and why is written at once; how many bytes are loaded by now is not. Names keep their digits.
fn without_standing_numbers(message: &str) -> String {
    let is_number = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
    message.split_whitespace().filter(|word| !is_number(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::without_standing_numbers;

    #[test]
    fn progress_is_no_news_and_names_are() {
        let loading = |bytes: u64| format!("agent-0 has loaded {bytes} of 900 bytes");
        assert_eq!(without_standing_numbers(&loading(1)), without_standing_numbers(&loading(899)));
        let lost = |agent: &str| format!("on node2: {agent} does not answer");
        assert_ne!(without_standing_numbers(&lost("a-0")), without_standing_numbers(&lost("a-1")));
    }
}
