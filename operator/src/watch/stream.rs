//! Watches → caches, and waking whose objects changed.

use super::cache::{Cache, Entry, News, Owner};
use super::deployment::Written;
use super::node::{self, NodeFacts};
use super::object::{self, ObjectFacts};
use super::pod::{self, PodFacts};
use super::wakes::Wakes;
use crate::error::describe;
use crate::key::{DeploymentKey, MANAGED_BY_LABEL, MANAGER};
use crate::settings::WatchScope;
use crds::ModelDeployment;
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Kinds of objects that the operator applies and watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    ModelDeployment,
    ServiceAccount,
    Secret,
    ConfigMap,
    Service,
    NetworkPolicy,
    PodDisruptionBudget,
    StatefulSet,
    Deployment,
}

impl Kind {
    /// Those that are applied and watched.
    pub const APPLIED: [Self; 8] = [
        Self::ServiceAccount,
        Self::Secret,
        Self::ConfigMap,
        Self::Service,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::StatefulSet,
        Self::Deployment,
    ];

    /// How the API server calls it.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::ModelDeployment => ApiResource::erase::<ModelDeployment>(&()),
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::Secret => ApiResource::erase::<Secret>(&()),
            Self::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
        }
    }
}

/// Everything that watches have shown.
#[derive(Debug)]
pub struct Caches {
    pub deployments: Cache<ModelDeploymentFacts>,
    pub pods: Cache<PodFacts>,
    pub nodes: Cache<NodeFacts>,
    objects: BTreeMap<Kind, Cache<ObjectFacts>>,
    nothing: Cache<ObjectFacts>,
}

/// A ModelDeployment as it stands in the cluster. Equal when nothing that a person wrote differs.
#[derive(Clone, Debug)]
pub struct ModelDeploymentFacts {
    pub deployment: ModelDeployment,
    /// Why its spec could not be read.
    pub unreadable: Option<String>,
}

impl PartialEq for ModelDeploymentFacts {
    fn eq(&self, other: &Self) -> bool {
        let (mine, others) = (&self.deployment.metadata, &other.deployment.metadata);
        mine.uid == others.uid
            && mine.generation == others.generation
            && mine.deletion_timestamp == others.deletion_timestamp
    }
}

impl Default for Caches {
    fn default() -> Self {
        Self {
            deployments: Cache::default(),
            pods: Cache::default(),
            nodes: Cache::default(),
            objects: Kind::APPLIED.into_iter().map(|kind| (kind, Cache::default())).collect(),
            nothing: Cache::default(),
        }
    }
}

impl Caches {
    /// Objects of one kind.
    pub fn objects(&self, kind: Kind) -> &Cache<ObjectFacts> {
        // Every kind has its cache from the start on.
        self.objects.get(&kind).unwrap_or(&self.nothing)
    }

    /// Whether every first list has been read. Nodes are out of reach for an operator of one namespace.
    pub fn are_synced(&self) -> bool {
        self.deployments.is_synced()
            && self.pods.is_synced()
            && self.objects.values().all(Cache::is_synced)
    }
}

/// Starts the watches.
#[derive(Clone)]
pub struct Watcher {
    pub client: Client,
    pub scope: WatchScope,
    pub caches: Arc<Caches>,
    pub wakes: Wakes,
    /// Told whenever a ModelDeployment appears or goes, or a list is over.
    pub roll: tokio::sync::watch::Sender<u64>,
}

impl Debug for Watcher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Watcher").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Where a kind's facts are kept.
type Select<T> = fn(&Caches) -> &Cache<T>;
/// An object → its facts.
type Parse<K, T> = fn(K) -> Option<Entry<T>>;

impl Watcher {
    /// All watches; they end when the set is dropped.
    pub fn start(self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
        let everything = watcher::Config::default();
        self.spawn(
            &mut tasks,
            (self.api::<Written>(), everything.clone()),
            (deployments, parse_deployment),
        );
        self.spawn(&mut tasks, (self.api::<Pod>(), ours.clone()), (pods, pod::parse));
        if self.scope == WatchScope::Cluster {
            let all = Api::<Node>::all(self.client.clone());
            self.spawn(&mut tasks, (all, everything), (nodes, node::parse));
        }
        self.spawn(
            &mut tasks,
            (self.api::<StatefulSet>(), ours.clone()),
            (stateful_sets, |it| object::parse_stateful_set(&it)),
        );
        self.spawn(
            &mut tasks,
            (self.api::<Deployment>(), ours.clone()),
            (router_deployments, |it| object::parse_deployment(&it)),
        );
        self.spawn_metadata::<ServiceAccount>(&mut tasks, &ours, service_accounts);
        self.spawn_metadata::<Secret>(&mut tasks, &ours, secrets);
        self.spawn_metadata::<ConfigMap>(&mut tasks, &ours, config_maps);
        self.spawn_metadata::<Service>(&mut tasks, &ours, services);
        self.spawn_metadata::<NetworkPolicy>(&mut tasks, &ours, network_policies);
        self.spawn_metadata::<PodDisruptionBudget>(&mut tasks, &ours, budgets);
        tasks
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.scope {
            WatchScope::Cluster => Api::all(self.client.clone()),
            WatchScope::Namespace(namespace) => Api::namespaced(self.client.clone(), namespace),
        }
    }

    fn spawn_metadata<K>(
        &self,
        tasks: &mut JoinSet<()>,
        config: &watcher::Config,
        cache: fn(&Caches) -> &Cache<ObjectFacts>,
    ) where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let api = self.api::<PartialObjectMeta<K>>();
        self.spawn(tasks, (api, config.clone()), (cache, |it| object::parse_metadata(&it)));
    }

    fn spawn<K, T>(
        &self,
        tasks: &mut JoinSet<()>,
        (api, config): (Api<K>, watcher::Config),
        (cache, parse): (Select<T>, Parse<K, T>),
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
        T: PartialEq + Send + Sync + 'static,
    {
        let this = self.clone();
        let plural = K::plural(&());
        tasks.spawn(async move {
            let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => this.take(cache(&this.caches), parse, event),
                    Err(error) => {
                        tracing::warn!(kind = %plural, error = describe(&error), "watch");
                    }
                }
            }
        });
    }

    fn take<K, T: PartialEq>(&self, cache: &Cache<T>, parse: Parse<K, T>, event: Event<K>) {
        match event {
            Event::Init => cache.begin(),
            Event::InitApply(object) => {
                if let Some(entry) = parse(object) {
                    cache.add(entry);
                }
            }
            Event::InitDone => {
                cache.end();
                self.wakes.wake_all();
                self.call_roll();
            }
            Event::Apply(object) => {
                let Some(entry) = parse(object) else { return };
                let owner = entry.owner.clone();
                if cache.apply(entry) == News::Some {
                    self.wake(&owner);
                }
            }
            Event::Delete(object) => {
                let Some(Entry { owner, name, facts: _ }) = parse(object) else { return };
                cache.delete(&owner, &name);
                self.wake(&owner);
            }
        }
    }

    fn wake(&self, owner: &Owner) {
        match owner {
            Owner::Deployment(key) => {
                if !self.wakes.wake(key) {
                    // Nobody keeps it yet.
                    self.call_roll();
                }
            }
            Owner::Cluster => self.wakes.wake_all(),
        }
    }

    fn call_roll(&self) {
        self.roll.send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn parse_deployment(written: Written) -> Option<Entry<ModelDeploymentFacts>> {
    let Written { mut deployment, unreadable } = written;
    deployment.metadata.managed_fields = None;
    let namespace = deployment.metadata.namespace.as_deref()?;
    let name = deployment.metadata.name.clone()?;
    let key = DeploymentKey::new(namespace, &name);
    let facts = ModelDeploymentFacts { deployment, unreadable };
    Some(Entry { owner: Owner::Deployment(key), name, facts })
}

fn deployments(caches: &Caches) -> &Cache<ModelDeploymentFacts> {
    &caches.deployments
}

fn pods(caches: &Caches) -> &Cache<PodFacts> {
    &caches.pods
}

fn nodes(caches: &Caches) -> &Cache<NodeFacts> {
    &caches.nodes
}

fn stateful_sets(caches: &Caches) -> &Cache<ObjectFacts> {
    caches.objects(Kind::StatefulSet)
}

fn router_deployments(caches: &Caches) -> &Cache<ObjectFacts> {
    caches.objects(Kind::Deployment)
}

fn service_accounts(caches: &Caches) -> &Cache<ObjectFacts> {
    caches.objects(Kind::ServiceAccount)
}

fn secrets(caches: &Caches) -> &Cache<ObjectFacts> {
    caches.objects(Kind::Secret)
}

fn config_maps(caches: &Caches) -> &Cache<ObjectFacts> {
    caches.objects(Kind::ConfigMap)
}

fn services(caches: &Caches) -> &Cache<ObjectFacts> {
    caches.objects(Kind::Service)
}

fn network_policies(caches: &Caches) -> &Cache<ObjectFacts> {
    caches.objects(Kind::NetworkPolicy)
}

fn budgets(caches: &Caches) -> &Cache<ObjectFacts> {
    caches.objects(Kind::PodDisruptionBudget)
}
