//! One task for each ModelDeployment, for as long as it exists and this replica leads.

use crate::context::Context;
use crate::driver::Driver;
use crate::health::Heartbeat;
use crate::key::DeploymentKey;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

/// The loop turns at least this often, to show that it does.
const BEAT: Duration = Duration::from_secs(1);

/// Keeps the tasks in step with the deployments until dropped; the tasks end with it.
pub async fn run(context: &Arc<Context>, mut roll: watch::Receiver<u64>, heartbeat: &Heartbeat) {
    let mut tasks = Tasks::default();
    loop {
        heartbeat.beat();
        roll.mark_unchanged();
        for key in context.caches.deployments.owners() {
            tasks.ensure(context, key);
        }
        tokio::select! {
            changed = roll.changed() => {
                if changed.is_err() {
                    // The watches have ended, and so does the process.
                    return;
                }
            }
            Some(ended) = tasks.running.join_next_with_id() => tasks.forget(ended.map(|(id, ())| id)),
            () = tokio::time::sleep(BEAT) => {}
        }
    }
}

#[derive(Default)]
struct Tasks {
    running: JoinSet<()>,
    by_key: HashMap<DeploymentKey, Id>,
}

impl Tasks {
    fn ensure(&mut self, context: &Arc<Context>, key: DeploymentKey) {
        if self.by_key.contains_key(&key) {
            return;
        }
        let driver = Driver::new(context, &key);
        let id = self.running.spawn(driver.run()).id();
        self.by_key.insert(key, id);
    }

    /// A deployment is gone, or its task failed; the next turn makes a new one if there is still a need.
    fn forget(&mut self, ended: Result<Id, tokio::task::JoinError>) {
        let id = match ended {
            Ok(id) => id,
            Err(error) => {
                tracing::error!(%error, "a deployment's task ended by itself");
                error.id()
            }
        };
        self.by_key.retain(|_, known| *known != id);
    }
}
