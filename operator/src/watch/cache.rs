//! What a watch has shown, parsed and small, by deployment.

use crate::key::DeploymentKey;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Whose an object is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    Deployment(DeploymentKey),
    /// Nodes, which serve all.
    Cluster,
}

/// One object as a watch showed it.
#[derive(Debug)]
pub struct Entry<T> {
    pub owner: Owner,
    pub name: String,
    pub facts: T,
}

/// Facts by owner and name.
type Facts<T> = HashMap<Owner, BTreeMap<String, Arc<T>>>;

/// Everything of one kind.
#[derive(Debug)]
pub struct Cache<T> {
    facts: RwLock<Facts<T>>,
    /// While a list is being read: what it has shown so far.
    incoming: RwLock<Option<Facts<T>>>,
    synced: AtomicBool,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            facts: RwLock::default(),
            incoming: RwLock::default(),
            synced: AtomicBool::new(false),
        }
    }
}

/// Whether an event told anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Some,
    None,
}

impl<T: PartialEq> Cache<T> {
    /// All objects of one owner.
    pub fn of(&self, owner: &Owner) -> BTreeMap<String, Arc<T>> {
        self.read().get(owner).cloned().unwrap_or_default()
    }

    /// One object.
    pub fn get(&self, owner: &Owner, name: &str) -> Option<Arc<T>> {
        self.read().get(owner)?.get(name).cloned()
    }

    /// Every deployment that has an object here.
    pub fn owners(&self) -> Vec<DeploymentKey> {
        let facts = self.read();
        let deployments = facts.keys().filter_map(|owner| match owner {
            Owner::Deployment(key) => Some(key.clone()),
            Owner::Cluster => None,
        });
        deployments.collect()
    }

    /// Whether the first list has been read to its end.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Takes an object in.
    pub fn apply(&self, entry: Entry<T>) -> News {
        let Entry { owner, name, facts } = entry;
        let mut all = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(owner).or_default();
        if known.get(&name).is_some_and(|known| **known == facts) {
            return News::None;
        }
        known.insert(name, Arc::new(facts));
        News::Some
    }

    /// Forgets an object.
    pub fn delete(&self, owner: &Owner, name: &str) {
        let mut all = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(owner) {
            known.remove(name);
            if known.is_empty() {
                all.remove(owner);
            }
        }
    }

    /// A list begins.
    pub fn begin(&self) {
        *self.incoming.write().unwrap_or_else(PoisonError::into_inner) = Some(HashMap::new());
    }

    /// An object of that list.
    pub fn add(&self, entry: Entry<T>) {
        let Entry { owner, name, facts } = entry;
        let mut incoming = self.incoming.write().unwrap_or_else(PoisonError::into_inner);
        let incoming = incoming.get_or_insert_default();
        incoming.entry(owner).or_default().insert(name, Arc::new(facts));
    }

    /// The list is over: what it did not show is gone.
    pub fn end(&self) {
        let incoming = self.incoming.write().unwrap_or_else(PoisonError::into_inner).take();
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = incoming.unwrap_or_default();
        self.synced.store(true, Ordering::Release);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Facts<T>> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner)
    }
}
