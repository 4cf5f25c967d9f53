//! The Kubernetes substrate: one group's agents as a StatefulSet, and, for the group that serves, routers and
//! everything around them.
//!
//! It decides nothing: numbers, restarts and replacements come from the reconciler.

pub mod objects;
mod observe;
mod record;
mod replicas;

use crate::apply::{Applier, ApplyError, DesiredError};
use crate::context::Context;
use crate::error::describe;
use crate::identity;
use crate::key::DeploymentKey;
use crate::render::{Group, Names, Revision, Target};
use crate::watch::Kind;
use crate::watch::cache::Owner;
use crate::watch::pod::{Component, PodFacts, Stage};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use observe::{LastSeen, Scene};
use planner::identity::AgentId;
use planner::plan::Plan;
use record::Record;
use replicas::{Replicas, Tenure};
use std::collections::BTreeMap;
use std::sync::Arc;
use substrate::{DeploymentStatus, Observed, Substrate, Wanted};
use tokio::sync::watch;

/// A verb that the cluster did not do.
#[derive(Debug, thiserror::Error)]
pub enum SubstrateError {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Desired(#[from] DesiredError),
    #[error("{} objects could not be applied, the first: {first}", 1 + others)]
    Several { first: ApplyError, others: usize },
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    #[error("compress the plan")]
    Pack {
        #[source]
        source: std::io::Error,
    },
    #[error("read the recorded plan: {cause}")]
    Unread { cause: String },
    #[error(
        "another operator recorded plan {theirs} meanwhile; plan {ours} is not given to anyone"
    )]
    RecordedByAnother { theirs: u64, ours: u64 },
}

impl SubstrateError {
    fn of(mut errors: Vec<ApplyError>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(Self::Apply(errors.remove(0))),
            count => Err(Self::Several { first: errors.remove(0), others: count - 1 }),
        }
    }

    /// Label of the metric.
    pub fn variant(&self) -> &'static str {
        match self {
            Self::Apply(error) | Self::Several { first: error, .. } => error.variant(),
            Self::Desired(_) => "Desired",
            Self::Identity(_) => "Identity",
            Self::Pack { .. } => "Pack",
            Self::Unread { .. } => "Unread",
            Self::RecordedByAnother { .. } => "RecordedByAnother",
        }
    }

    /// A read that failed.
    pub fn reading(kind: Kind, name: &str, error: &kube::Error) -> Self {
        Self::Apply(ApplyError::of(kind, name, error))
    }
}

/// What a group is made for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    pub target: Target,
    /// The ModelDeployment's spec as JSON; kept with the group.
    pub spec: String,
}

/// One group of one deployment.
pub struct KubernetesSubstrate {
    context: Arc<Context>,
    key: DeploymentKey,
    group: Group,
    wish: Arc<Wish>,
    applier: Applier,
    replicas: Replicas,
    last_seen: BTreeMap<AgentId, LastSeen>,
    record: Record,
    changes: watch::Receiver<u64>,
    /// What went wrong since the driver last looked, as types.
    failures: Vec<SubstrateError>,
}

impl std::fmt::Debug for KubernetesSubstrate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("KubernetesSubstrate");
        shown.field("key", &self.key).field("group", &self.group).finish_non_exhaustive()
    }
}

impl KubernetesSubstrate {
    /// Takes up what an earlier run left of the group.
    pub fn new(
        context: &Arc<Context>,
        key: &DeploymentKey,
        group: &Group,
        wish: Arc<Wish>,
    ) -> Self {
        let target = &wish.target;
        let set = target.names().stateful_set(group);
        let owner = Owner::Deployment(key.clone());
        let existing = context.caches.objects(Kind::StatefulSet).get(&owner, &set);
        let current = existing.and_then(|set| set.replicas).unwrap_or(0);
        let uid = target.owner.uid.clone();
        Self {
            applier: Applier::new(
                context.client.clone(),
                Arc::clone(&context.caches),
                key.clone(),
                uid,
            ),
            record: Record::new(context.client.clone(), target, group),
            changes: context.wakes.subscribe(key),
            context: Arc::clone(context),
            key: key.clone(),
            group: group.clone(),
            replicas: Replicas::new(set, current),
            last_seen: BTreeMap::new(),
            failures: Vec::new(),
            wish,
        }
    }

    /// Another wish for the same model; takes effect with the next round.
    pub fn set_wish(&mut self, wish: Arc<Wish>) {
        self.wish = wish;
    }

    /// What went wrong since the last call.
    pub fn take_failures(&mut self) -> Vec<SubstrateError> {
        std::mem::take(&mut self.failures)
    }

    async fn ensure_all(&mut self, routers: Option<u32>) -> Result<(), SubstrateError> {
        let wish = Arc::clone(&self.wish);
        let target = &wish.target;
        let mut pods =
            vec![objects::agents(target, &self.group, self.replicas.current(), &wish.spec)?];
        let mut errors = Vec::new();
        if let Some(routers) = routers {
            let around = objects::surroundings(target, &self.group)?;
            errors.extend(self.applier.apply_all(around).await.err().unwrap_or_default());
            pods.push(objects::routers(target, routers)?);
            self.replace_lost_routers().await?;
        }
        // Pods that start before their certificates wait for the kubelet's next try, which may take a minute.
        identity::ensure(&self.context, &self.key, target).await?;
        errors.extend(self.applier.apply_all(pods).await.err().unwrap_or_default());
        SubstrateError::of(errors)
    }

    /// Leaving agents without a running container hold nothing, so nobody has to take anything over.
    fn release_idle(&mut self) {
        let pods = self.pods();
        let runs = |agent: &AgentId| {
            let stage = pods.get(agent.as_str()).map(|pod| pod.stage);
            matches!(stage, Some(Stage::Running | Stage::Ready))
        };
        let leaving = self.replicas.agents().filter(|(_, tenure)| *tenure == Tenure::Leaves);
        let idle: Vec<AgentId> = leaving.map(|(agent, _)| agent).filter(|it| !runs(it)).collect();
        for agent in idle {
            self.replicas.release(&agent);
        }
    }

    fn pods(&self) -> BTreeMap<String, Arc<PodFacts>> {
        self.context.caches.pods.of(&Owner::Deployment(self.key.clone()))
    }

    /// Deletes routers of lost machines by force, so that their Deployment makes others at once and not when the
    /// control plane's patience of five minutes ends. Routers hold nothing, so two of one name do no harm.
    async fn replace_lost_routers(&self) -> Result<(), SubstrateError> {
        let nodes = self.context.caches.nodes.of(&Owner::Cluster);
        for (name, pod) in self.pods() {
            if pod.component == Component::Router && observe::is_gone(&nodes, &pod) {
                let by_force = DeleteParams::default().grace_period(0);
                self.delete_pod(&name, by_force).await?;
            }
        }
        Ok(())
    }

    /// Deletes a pod; its StatefulSet or Deployment makes a new one.
    async fn delete_pod(&self, name: &str, how: DeleteParams) -> Result<(), SubstrateError> {
        let Some(pod) = self.pods().get(name).cloned() else { return Ok(()) };
        let preconditions = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), self.key.namespace());
        let parameters = DeleteParams { preconditions: Some(preconditions), ..how };
        match api.delete(name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => {
                let cause = format!("delete pod {name}: {}", describe(&error));
                let (kind, name) = (Kind::StatefulSet, name.to_owned());
                Err(ApplyError::Unreachable { kind, name, cause }.into())
            }
        }
    }

    /// Keeps what failed for the driver, which makes conditions of types and not of text.
    fn noted<T>(&mut self, result: Result<T, SubstrateError>) -> Result<T, Noted> {
        result.map_err(|error| {
            self.context.metrics.error(error.variant());
            let text = describe(&error);
            tracing::warn!(deployment = %self.key, group = %self.group, error = text);
            self.failures.push(error);
            Noted { text }
        })
    }
}

/// Removes a group's own objects; the deployment's others stay.
///
/// # Errors
/// The first deletion that failed.
pub async fn remove_group(
    context: &Context,
    key: &DeploymentKey,
    (names, group): (Names<'_>, &Group),
) -> Result<(), SubstrateError> {
    let (client, caches) = (context.client.clone(), Arc::clone(&context.caches));
    let mut applier = Applier::new(client, caches, key.clone(), String::new());
    applier.delete(Kind::StatefulSet, &names.stateful_set(group)).await?;
    applier.delete(Kind::ConfigMap, &names.plan(group)).await?;
    Ok(())
}

/// A [`SubstrateError`] that the driver will find in [`KubernetesSubstrate::take_failures`].
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Noted {
    text: String,
}

impl Substrate for KubernetesSubstrate {
    type Error = Noted;

    async fn ensure(&mut self, wanted: Wanted) -> Result<(), Noted> {
        self.replicas.want(wanted.agents);
        self.release_idle();
        let result = self.ensure_all(wanted.routers).await;
        self.noted(result)
    }

    async fn observe(&mut self) -> Result<Observed, Noted> {
        // Whatever changes from here on is seen by the next round.
        self.changes.mark_unchanged();
        let mut observed = Observed::default();
        let pods = self.pods();
        let (routers, mut agents): (BTreeMap<_, _>, BTreeMap<_, _>) =
            pods.into_iter().partition(|(_, pod)| pod.component == Component::Router);
        agents.retain(|_, pod| pod.group == self.group.as_str());
        let nodes = self.context.caches.nodes.of(&Owner::Cluster);
        let revision = Revision::of(&self.wish.target);
        let scene =
            Scene { replicas: &self.replicas, pods: &agents, nodes: &nodes, revision: &revision };
        observe::agents(&scene, &mut self.last_seen, &mut observed);
        observe::routers(&routers, &nodes, &mut observed);
        observed.url = Some(self.wish.target.names().url(self.key.namespace()));
        Ok(observed)
    }

    async fn release(&mut self, agent: &AgentId) -> Result<(), Noted> {
        self.replicas.release(agent);
        Ok(())
    }

    async fn restart(&mut self, agent: &AgentId) -> Result<(), Noted> {
        let result = self.delete_pod(agent.as_str(), DeleteParams::default()).await;
        self.noted(result)
    }

    async fn replace_lost(&mut self, agent: &AgentId) -> Result<(), Noted> {
        let result = self.delete_pod(agent.as_str(), DeleteParams::default().grace_period(0)).await;
        self.noted(result)
    }

    async fn recorded(&mut self) -> Result<Option<Plan>, Noted> {
        let result = self.record.read().await;
        let plan = self.noted(result)?;
        for (agent, planned) in plan.iter().flat_map(|plan| &plan.agents) {
            let (host, address) = (planned.host.clone(), planned.address.clone());
            self.last_seen.insert(agent.clone(), LastSeen { host, address });
        }
        Ok(plan)
    }

    async fn record(&mut self, plan: &Plan) -> Result<(), Noted> {
        let wish = Arc::clone(&self.wish);
        let result = self.record.write(&wish.target, &self.group, plan).await;
        self.noted(result)
    }

    /// Nothing: several groups make one status, and the driver publishes that.
    async fn publish(&mut self, _: &DeploymentStatus) -> Result<(), Noted> {
        Ok(())
    }

    async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The deployment is gone; its task is about to end.
            std::future::pending::<()>().await;
        }
    }

    async fn stop(&mut self) -> Result<(), Noted> {
        let names = self.wish.target.names();
        let result = remove_group(&self.context, &self.key, (names, &self.group)).await;
        self.noted(result)
    }
}
