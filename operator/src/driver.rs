//! One deployment's task: watch → validate → observe → plan → lint → apply → status, again and again.

use crate::context::Context;
use crate::deployment_metrics::{Reference, Shown};
use crate::error::describe;
use crate::events::Announcer;
use crate::fleet::{Findings, Fleet};
use crate::key::DeploymentKey;
use crate::kubernetes::Wish;
use crate::monitoring::Monitoring;
use crate::status::compose::{View, compose};
use crate::status::publisher::{Due, Publisher};
use crate::troubles::Troubles;
use crate::validate::{Defaults, validate};
use crate::watch::ModelDeploymentFacts;
use crate::watch::cache::Owner;
use crds::{ModelDeployment, ModelDeploymentStatus, Phase, Violation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use std::sync::Arc;
use std::time::Duration;
use substrate::DeploymentStatus;
use tokio::sync::watch;
use tokio::time::Instant;

/// Changes come in bursts: a dozen objects are created at once, and each is an event. One round answers them all.
const SETTLE: Duration = Duration::from_millis(20);
/// A task that has just begun has not heard from agents and routers yet. For this long it does not take back what the
/// status says: their first words come within a second, and agents are called silent after less than this.
const FIRST_WORDS: Duration = Duration::from_secs(5);
/// After a verb that failed; the API server may be in trouble, so not at once.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps one deployment.
#[derive(Debug)]
pub struct Driver {
    context: Arc<Context>,
    key: DeploymentKey,
    owner: Owner,
    changes: watch::Receiver<u64>,
    kept: Option<Kept>,
}

/// What is kept of a deployment while it exists.
#[derive(Debug)]
struct Kept {
    uid: String,
    /// Until then it takes back nothing that the status says; see [`FIRST_WORDS`].
    patient_until: Option<Instant>,
    fleet: Fleet,
    publisher: Publisher,
    announcer: Announcer,
    monitoring: Monitoring,
    /// The last spec that could be used.
    wish: Option<Arc<Wish>>,
    phase: Option<String>,
    next: Option<Instant>,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Done,
    /// Some verb failed; the next round tries it again.
    Failed,
    Gone,
}

impl Driver {
    pub fn new(context: &Arc<Context>, key: &DeploymentKey) -> Self {
        Self {
            changes: context.wakes.subscribe(key),
            owner: Owner::Deployment(key.clone()),
            context: Arc::clone(context),
            key: key.clone(),
            kept: None,
        }
    }

    /// Until the deployment is gone.
    pub async fn run(mut self) {
        loop {
            self.changes.mark_unchanged();
            let begin = Instant::now();
            let turn = self.round().await;
            self.context.metrics.round(outcome(turn), begin.elapsed());
            if turn == Turn::Gone {
                break;
            }
            self.wait().await;
        }
        self.context.wakes.forget(&self.key);
        let phase = self.kept.as_ref().and_then(|kept| kept.phase.as_deref());
        self.context.metrics.phase(phase, None);
        self.context.shown.forget(self.key.namespace(), self.key.name());
    }

    async fn round(&mut self) -> Turn {
        let Some(facts) = self.watch() else { return Turn::Gone };
        let deployment = &facts.deployment;
        let kept = self.kept.as_mut();
        let Some(kept) = kept else { return Turn::Done };
        let violations = match &facts.unreadable {
            None => kept.validate(&self.context, deployment),
            Some(error) => vec![unreadable(error)],
        };
        if let Err(error) = kept.pin(&self.context, deployment).await {
            tracing::warn!(deployment = %self.key, %error, "pin the image");
            kept.next = Some(Instant::now() + RETRY);
            return Turn::Failed;
        }
        let findings = match kept.wish.clone() {
            Some(wish) => kept.fleet.round(&wish).await,
            None => Findings::default(),
        };
        if let Some(wish) = kept.wish.clone()
            && let Err(error) = kept.monitoring.keep(&self.context.client, &wish.target).await
        {
            tracing::warn!(deployment = %self.key, error = describe(&error), "monitoring");
        }
        let failed = !findings.failures.is_empty();
        kept.publish(&self.context, (&self.key, deployment), (&violations, findings)).await;
        if failed { Turn::Failed } else { Turn::Done }
    }

    /// The deployment as the cluster has it; `None` when it is gone or is another one by now.
    fn watch(&mut self) -> Option<Arc<ModelDeploymentFacts>> {
        let facts = self.context.caches.deployments.get(&self.owner, self.key.name())?;
        let deployment = &facts.deployment;
        let uid = deployment.metadata.uid.clone().unwrap_or_default();
        match &self.kept {
            Some(kept) if kept.uid != uid => return None,
            // Its objects go with it; nothing of them is made again.
            _ if deployment.metadata.deletion_timestamp.is_some() => self.kept = None,
            Some(_) => {}
            None => self.kept = Some(Kept::new(&self.context, &self.key, deployment)),
        }
        Some(facts)
    }

    async fn wait(&mut self) {
        let changes = &mut self.changes;
        match &mut self.kept {
            Some(kept) => {
                let next = kept.next;
                let timer = async {
                    match next {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = changes.changed() => {}
                    () = kept.fleet.changed() => {}
                    () = timer => {}
                }
            }
            None => {
                let _ = changes.changed().await;
            }
        }
        tokio::time::sleep(SETTLE).await;
    }
}

impl Kept {
    fn new(context: &Arc<Context>, key: &DeploymentKey, deployment: &ModelDeployment) -> Self {
        let client = &context.client;
        let written = deployment.status.clone().unwrap_or_default();
        Self {
            uid: deployment.metadata.uid.clone().unwrap_or_default(),
            patient_until: Some(Instant::now() + FIRST_WORDS),
            fleet: Fleet::new(context, key),
            publisher: Publisher::new(client.clone(), key, written),
            announcer: Announcer::new(
                client.clone(),
                key.clone(),
                context.settings.pod_name.clone(),
            ),
            monitoring: Monitoring::new(context.settings.monitoring_labels.clone()),
            wish: None,
            phase: None,
            next: None,
        }
    }

    /// Takes the spec up if it can be used; else the last one that could stays in force.
    fn validate(&mut self, context: &Context, deployment: &ModelDeployment) -> Vec<Violation> {
        let mut defaults = Defaults::of(&context.settings);
        if let Some(pinned) = &self.publisher.written().image {
            defaults.serving_image.clone_from(pinned);
        }
        match validate(deployment, &defaults) {
            Ok(wish) => {
                if self.wish.as_deref() != Some(&wish) {
                    self.wish = Some(Arc::new(wish));
                }
                Vec::new()
            }
            Err(violations) => violations,
        }
    }

    /// Writes down which image the deployment runs before anything runs it.
    async fn pin(
        &mut self,
        context: &Context,
        deployment: &ModelDeployment,
    ) -> Result<(), crate::apply::ApplyError> {
        if deployment.spec.image.is_some() || self.publisher.written().image.is_some() {
            return Ok(());
        }
        let image = Some(context.settings.serving_image.clone());
        let status = ModelDeploymentStatus { image, ..self.publisher.written().clone() };
        self.publisher.publish(status).await.map(|_| ())
    }

    async fn publish(
        &mut self,
        context: &Context,
        (key, deployment): (&DeploymentKey, &ModelDeployment),
        (violations, findings): (&[Violation], Findings),
    ) {
        let troubles = Troubles::of(&context.caches, key);
        let before = self.publisher.written().clone();
        let view = View {
            name: key.name(),
            spec: &deployment.spec,
            generation: deployment.metadata.generation,
            before: &before,
            violations,
            serving: findings.serving.as_ref(),
            rising: findings.rising.as_ref().map(|(group, status)| (group, status)),
            troubles: &troubles.pods,
            refused_pods: troubles.refused.as_deref(),
            router_pods_ready: troubles.router_pods_ready,
            nodes: &troubles.nodes,
            failures: &findings.failures,
            image: match deployment.spec.image {
                Some(_) => None,
                None => before.image.as_deref(),
            },
        };
        let (status, news) = compose(&view, &Time(Timestamp::now()));
        self.patient_until = self.patient_until.filter(|until| Instant::now() < *until);
        if let Some(until) = self.patient_until.filter(|_| takes_back(&before, &status)) {
            self.next = Some(until);
            return;
        }
        if is_well(&status) {
            // Everybody has spoken: what is missing from now on is lost.
            self.patient_until = None;
        }
        self.show(context, key, (&status, findings.serving.as_ref()));
        let phase = status.phase.map(|phase| phase.to_string());
        context.metrics.phase(self.phase.as_deref(), phase.as_deref());
        self.phase = phase;
        let retry = Instant::now() + RETRY;
        self.next = (!findings.failures.is_empty()).then_some(retry);
        match self.publisher.publish(status).await {
            Ok(Due::Never) => {}
            Ok(Due::At(at)) => self.next = Some(self.next.map_or(at, |next| next.min(at))),
            Err(error) => {
                context.metrics.error(error.variant());
                tracing::warn!(deployment = %key, %error, "publish the status");
                self.next = Some(retry);
                return;
            }
        }
        self.announcer.announce(&deployment.object_ref(&()), news).await;
    }

    /// Tells the metrics what the status tells people.
    fn show(
        &self,
        context: &Context,
        key: &DeploymentKey,
        (status, serving): (&ModelDeploymentStatus, Option<&DeploymentStatus>),
    ) {
        let cost = serving.and_then(|serving| serving.cost.clone());
        let compared =
            self.wish.as_ref().and_then(|wish| wish.target.request.cost.compare_with.clone());
        let reference = cost.as_ref().zip(compared).and_then(|(cost, model)| {
            let prices = &context.settings.prices;
            let per_million_tokens =
                prices.per_million_tokens(&model, &cost.currency, &cost.tokens)?;
            Some(Reference { model, per_million_tokens })
        });
        let shown = Shown { status: status.clone(), cost, reference };
        context.shown.show(key.namespace(), key.name(), shown);
    }
}

/// What another version's definition let through. The last spec that could be read stays in force.
fn unreadable(error: &str) -> Violation {
    Violation {
        field: crds::UNREADABLE_FIELD.to_owned(),
        value: error.to_owned(),
        remedy: "write what this operator's version knows, or install the operator that belongs to the definition"
            .to_owned(),
    }
}

/// Whether a deployment that served, or slept, would no longer be said to.
fn takes_back(before: &ModelDeploymentStatus, now: &ModelDeploymentStatus) -> bool {
    is_well(before) && !is_well(now)
}

fn is_well(status: &ModelDeploymentStatus) -> bool {
    status.phase.is_some_and(|phase| match phase {
        Phase::Available | Phase::Updating | Phase::Asleep => true,
        Phase::Pending
        | Phase::Loading
        | Phase::Degraded
        | Phase::Waking
        | Phase::Failed
        | Phase::Unknown => false,
    })
}

fn outcome(turn: Turn) -> &'static str {
    match turn {
        Turn::Done | Turn::Gone => "ok",
        Turn::Failed => "error",
    }
}
