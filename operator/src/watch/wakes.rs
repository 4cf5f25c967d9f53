//! Who is to be woken when something of a deployment changed.

use crate::key::DeploymentKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// A counter for each deployment; a task waits for the next number of its own.
#[derive(Clone, Debug, Default)]
pub struct Wakes {
    counters: Arc<Mutex<HashMap<DeploymentKey, watch::Sender<u64>>>>,
}

impl Wakes {
    /// Sees every later [`wake`](Self::wake) of this deployment; several in a row may be seen as one.
    pub fn subscribe(&self, key: &DeploymentKey) -> watch::Receiver<u64> {
        let mut counters = self.lock();
        counters.entry(key.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Something of this deployment changed. Returns whether anybody waits for it.
    pub fn wake(&self, key: &DeploymentKey) -> bool {
        let counters = self.lock();
        let counter = counters.get(key);
        if let Some(counter) = counter {
            counter.send_modify(|count| *count = count.wrapping_add(1));
        }
        counter.is_some()
    }

    /// Something that concerns all changed.
    pub fn wake_all(&self) {
        for counter in self.lock().values() {
            counter.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// The deployment is gone.
    pub fn forget(&self, key: &DeploymentKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DeploymentKey, watch::Sender<u64>>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
