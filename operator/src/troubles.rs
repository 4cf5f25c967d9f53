//! What pods of a deployment suffer from, read from the caches. Pure.

use crate::key::DeploymentKey;
use crate::watch::cache::Owner;
use crate::watch::pod::{Component, Stage, Trouble};
use crate::watch::{Caches, Kind};
use std::collections::BTreeMap;

/// Pods that do not get on, and what is said about pods that cannot even be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// By pod, in the order of their names.
    pub pods: Vec<(String, Trouble)>,
    pub refused: Option<String>,
    pub router_pods_ready: usize,
    /// Where each pod runs, as far as it is bound.
    pub nodes: BTreeMap<String, String>,
}

impl Troubles {
    /// Of one deployment.
    pub fn of(caches: &Caches, key: &DeploymentKey) -> Self {
        let owner = Owner::Deployment(key.clone());
        let pods = caches.pods.of(&owner);
        let ready = |stage: Stage| stage == Stage::Ready;
        let routers = pods.values().filter(|pod| pod.component == Component::Router);
        let router_pods_ready = routers.filter(|pod| ready(pod.stage)).count();
        let troubled =
            pods.iter().filter_map(|(name, pod)| Some((name.clone(), pod.trouble.clone()?)));
        let deployments = caches.objects(Kind::Deployment).of(&owner);
        let refused = deployments.values().find_map(|deployment| deployment.failure.clone());
        let nodes = pods.iter().filter_map(|(name, pod)| Some((name.clone(), pod.node.clone()?)));
        Self { pods: troubled.collect(), refused, router_pods_ready, nodes: nodes.collect() }
    }
}
