//! Kubernetes Events: what `kubectl describe` tells a person beside the status. Each is said once.
//!
//! An Event's name is a hash of what it says, so that neither a restart nor another replica says it again, and each
//! deployment has a budget, so that a flapping one does not fill the cluster's store.

use crate::error::describe;
use crate::key::{DeploymentKey, MANAGER};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Events of one deployment in a row; a start with a few mishaps takes about ten.
const BURST: u32 = 20;
/// After the burst, one in this time.
const REFILL: Duration = Duration::from_secs(30);
/// The API server keeps Events for an hour; what is still true then may be said again.
const REPEAT: Duration = Duration::from_secs(3_600);
/// The API refuses longer notes.
const NOTE_BYTES_MAX: usize = 1_024;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    Normal,
    Warning,
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub weight: Weight,
    /// One word in CamelCase: the condition's reason.
    pub reason: String,
    pub note: String,
}

/// Says one deployment's news.
pub struct Announcer {
    api: Api<Event>,
    key: DeploymentKey,
    instance: String,
    told: BTreeMap<String, Instant>,
    budget: u32,
    refilled: Instant,
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Announcer").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Announcer {
    pub fn new(client: Client, key: DeploymentKey, instance: String) -> Self {
        let api = Api::namespaced(client, key.namespace());
        Self { api, key, instance, told: BTreeMap::new(), budget: BURST, refilled: Instant::now() }
    }

    /// Says what has not been said lately. What the API server does not take is dropped: the status says it too.
    pub async fn announce(&mut self, regarding: &ObjectReference, news: Vec<News>) {
        let now = Instant::now();
        self.told.retain(|_, at| now.duration_since(*at) < REPEAT);
        self.refill(now);
        for item in news {
            let name = self.name(regarding, &item);
            if self.budget == 0 || self.told.contains_key(&name) {
                continue;
            }
            self.budget -= 1;
            self.told.insert(name.clone(), now);
            let event = self.event(name, regarding.clone(), item);
            match self.api.create(&PostParams::default(), &event).await {
                Ok(_) => {}
                // Said before, by an earlier run.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    tracing::debug!(deployment = %self.key, error = describe(&error), "event");
                }
            }
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.duration_since(self.refilled).as_secs() / REFILL.as_secs();
        if let Some(earned) = u32::try_from(passed).ok().filter(|earned| *earned > 0) {
            self.budget = self.budget.saturating_add(earned).min(BURST);
            self.refilled = now;
        }
    }

    fn name(&self, regarding: &ObjectReference, news: &News) -> String {
        let uid = regarding.uid.as_deref().unwrap_or_default();
        let text = format!("{uid}\n{}\n{}", news.reason, news.note);
        let digest = Sha256::digest(text.as_bytes());
        let hash: String = digest.iter().take(8).map(|it| format!("{it:02x}")).collect();
        format!("{}.{hash}", self.key.name())
    }

    fn event(&self, name: String, regarding: ObjectReference, news: News) -> Event {
        let kind = match news.weight {
            Weight::Normal => "Normal",
            Weight::Warning => "Warning",
        };
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(self.key.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(cut(news.note)),
            reason: Some(news.reason),
            regarding: Some(regarding),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(kind.to_owned()),
            ..Event::default()
        }
    }
}

fn cut(mut note: String) -> String {
    if note.len() > NOTE_BYTES_MAX {
        let end = (0..=NOTE_BYTES_MAX - 3).rev().find(|end| note.is_char_boundary(*end));
        note.truncate(end.unwrap_or(0));
        note.push('…');
    }
    note
}
