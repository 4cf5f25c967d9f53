//! One deployment's groups, each with its reconciler: observe → plan → lint → apply, by [`substrate::Reconciler`].

use crate::context::Context;
use crate::error::describe;
use crate::goal::goal;
use crate::groups::{Duty, Groups, Progress};
use crate::key::{DeploymentKey, SPEC_ANNOTATION};
use crate::kubernetes::{KubernetesSubstrate, SubstrateError, Wish};
use crate::render::{Group, Names};
use crate::validate::{Defaults, validate_spec};
use crate::watch::Kind;
use crate::watch::cache::Owner;
use futures::FutureExt;
use futures::future::select_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;
use std::collections::BTreeMap;
use std::sync::Arc;
use substrate::{DeploymentStatus, Reconciler, RouterDuty};
use tokio::time::Instant;

/// All groups of one deployment.
#[derive(Debug)]
pub struct Fleet {
    context: Arc<Context>,
    key: DeploymentKey,
    groups: Groups,
    members: BTreeMap<Group, Member>,
}

/// One group that is being kept.
#[derive(Debug)]
struct Member {
    wish: Arc<Wish>,
    reconciler: Reconciler<KubernetesSubstrate>,
    status: Option<DeploymentStatus>,
}

/// What a round found.
#[derive(Debug, Default)]
pub struct Findings {
    pub serving: Option<DeploymentStatus>,
    pub rising: Option<(Group, DeploymentStatus)>,
    pub failures: Vec<SubstrateError>,
}

impl Fleet {
    /// Takes up the groups that an earlier run left.
    pub fn new(context: &Arc<Context>, key: &DeploymentKey) -> Self {
        let owner = Owner::Deployment(key.clone());
        let prefix = format!("{}-agents-", key.name());
        let sets = context.caches.objects(Kind::StatefulSet).of(&owner);
        let existing: Vec<Group> = sets
            .keys()
            .filter_map(|name| name.strip_prefix(&prefix))
            .map(Group::from_label)
            .collect();
        let service = context.caches.objects(Kind::Service).get(&owner, key.name());
        let serving =
            service.and_then(|service| service.serving_group.clone()).map(Group::from_label);
        let groups = Groups::restore(existing, serving.as_ref(), Instant::now());
        Self { context: Arc::clone(context), key: key.clone(), groups, members: BTreeMap::new() }
    }

    /// One round over every group. Never fails as a whole: what failed is among the findings.
    pub async fn round(&mut self, wish: &Arc<Wish>) -> Findings {
        let mut findings = Findings::default();
        let wanted = Group::of(&wish.target);
        for useless in self.groups.want(&wanted) {
            self.remove(&useless, &mut findings).await;
        }
        let duties = self.groups.duties().clone();
        for group in duties.keys() {
            let result = self.ensure_member(group, (*group == wanted).then_some(wish)).await;
            findings.failures.extend(result.err());
        }
        let homes = self.draining_homes();
        let highest =
            self.members.values().filter_map(|it| it.reconciler.plan()).map(|it| it.generation);
        let highest = highest.max();
        for (group, duty) in &duties {
            let Some(member) = self.members.get_mut(group) else { continue };
            member.reconciler.set_duty(router_duty(*duty, &homes));
            if let Some(highest) = highest.filter(|_| duties.len() > 1) {
                // Routers refuse homes of a lower number, whichever group they come from.
                member.reconciler.raise_generation(highest);
            }
            let status = member.reconciler.reconcile().await;
            let failures = member.reconciler.substrate_mut().take_failures();
            let stale =
                failures.iter().any(|it| matches!(it, SubstrateError::RecordedByAnother { .. }));
            findings.failures.extend(failures);
            member.status = Some(status);
            if stale {
                // Its memory is of another time; the next round begins with the record.
                self.members.remove(group);
            }
        }
        self.find(&mut findings);
        let progress = self.progress();
        for done in self.groups.advance(&progress, Instant::now()) {
            self.remove(&done, &mut findings).await;
        }
        findings
    }

    /// Resolves when another round may be of use. Cancel safe.
    pub async fn changed(&mut self) {
        let waits: Vec<_> =
            self.members.values_mut().map(|it| it.reconciler.changed().boxed()).collect();
        if waits.is_empty() {
            std::future::pending::<()>().await;
        }
        select_all(waits).await;
    }

    async fn ensure_member(
        &mut self,
        group: &Group,
        wish: Option<&Arc<Wish>>,
    ) -> Result<(), SubstrateError> {
        if let Some(member) = self.members.get_mut(group) {
            if let Some(wish) = wish.filter(|wish| **wish != member.wish) {
                member.wish = Arc::clone(wish);
                member.reconciler.substrate_mut().set_wish(Arc::clone(wish));
                member.reconciler.set_goal(goal(wish));
            }
            return Ok(());
        }
        let wish = match wish {
            Some(wish) => Arc::clone(wish),
            None => match self.read_wish(group).await? {
                Some(wish) => Arc::new(wish),
                None => return Ok(()),
            },
        };
        let substrate =
            KubernetesSubstrate::new(&self.context, &self.key, group, Arc::clone(&wish));
        let dialer = self.context.authority.dialer(&self.key)?;
        match Reconciler::start_with(substrate, goal(&wish), dialer).await {
            Ok(reconciler) => {
                self.members.insert(group.clone(), Member { wish, reconciler, status: None });
                Ok(())
            }
            Err(error) => Err(SubstrateError::Unread { cause: describe(&error) }),
        }
    }

    /// What a group was made for, from its own StatefulSet; `None` when that is gone.
    async fn read_wish(&self, group: &Group) -> Result<Option<Wish>, SubstrateError> {
        let name = Names::new(self.key.name()).stateful_set(group);
        let api: Api<StatefulSet> =
            Api::namespaced(self.context.client.clone(), self.key.namespace());
        let found = api.get_metadata_opt(&name).await;
        let found =
            found.map_err(|error| SubstrateError::reading(Kind::StatefulSet, &name, &error))?;
        let Some(set) = found else { return Ok(None) };
        let spec = set.metadata.annotations.unwrap_or_default().remove(SPEC_ANNOTATION);
        let owner = set.metadata.owner_references.unwrap_or_default().into_iter().next();
        let defaults = Defaults::of(&self.context.settings);
        let wish = spec
            .zip(owner)
            .and_then(|(spec, owner)| validate_spec(&self.key, &spec, owner, &defaults));
        if wish.is_none() {
            tracing::warn!(deployment = %self.key, %group, "the group's spec cannot be read; it is left as it is");
        }
        Ok(wish)
    }

    async fn remove(&mut self, group: &Group, findings: &mut Findings) {
        tracing::info!(deployment = %self.key, %group, "the group goes");
        let names = Names::new(self.key.name());
        let removed =
            crate::kubernetes::remove_group(&self.context, &self.key, (names, group)).await;
        findings.failures.extend(removed.err());
        self.members.remove(group);
    }

    /// Homes of groups that end what they began.
    fn draining_homes(&self) -> Vec<proto::v1::Home> {
        let mut homes = Vec::new();
        for (group, duty) in self.groups.duties() {
            match duty {
                Duty::Draining { .. } => {
                    if let Some(member) = self.members.get(group) {
                        homes.extend(member.reconciler.resuming_homes());
                    }
                }
                Duty::Serving | Duty::Rising => {}
            }
        }
        homes
    }

    fn find(&self, findings: &mut Findings) {
        for (group, duty) in self.groups.duties() {
            let status = self.members.get(group).and_then(|member| member.status.clone());
            match (duty, status) {
                (Duty::Serving, status) => findings.serving = status,
                (Duty::Rising, Some(status)) => findings.rising = Some((group.clone(), status)),
                (Duty::Rising, None) | (Duty::Draining { .. }, _) => {}
            }
        }
    }

    fn progress(&self) -> BTreeMap<Group, Progress> {
        let statuses = self.members.iter().filter_map(|(group, member)| {
            let status = member.status.as_ref()?;
            Some((group.clone(), progress(status, member.reconciler.sequences())))
        });
        statuses.collect()
    }
}

fn progress(status: &DeploymentStatus, sequences: u32) -> Progress {
    let DeploymentStatus { agents, experts, plan, .. } = status;
    Progress {
        is_ready: plan.generation.is_some()
            && agents.ready >= agents.desired
            && experts.missing == 0
            && experts.copies >= experts.copies_planned,
        is_idle: sequences == 0,
    }
}

fn router_duty(duty: Duty, draining: &[proto::v1::Home]) -> RouterDuty {
    match duty {
        Duty::Serving => RouterDuty::Active { resuming: draining.to_vec() },
        Duty::Rising | Duty::Draining { .. } => RouterDuty::Candidate,
    }
}
