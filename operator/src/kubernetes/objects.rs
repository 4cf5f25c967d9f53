//! One deployment's wishes → the objects to apply. Pure: `render` draws them, this says which there are.

use crate::apply::{Desired, DesiredError};
use crate::key::{SERVING_GROUP_ANNOTATION, SPEC_ANNOTATION};
use crate::render::{self, Group, Target};
use crate::watch::Kind;
use kube::Resource;
use std::collections::BTreeMap;

/// Everything but pods: names, accounts, budgets and policies come before what needs them.
pub fn surroundings(target: &Target, serving: &Group) -> Result<Vec<Desired>, DesiredError> {
    let mut objects = Vec::new();
    for account in render::service_accounts(target) {
        objects.push(Desired::new(Kind::ServiceAccount, &account)?);
    }
    for policy in render::network_policies(target) {
        objects.push(Desired::new(Kind::NetworkPolicy, &policy)?);
    }
    for budget in render::pod_disruption_budgets(target) {
        objects.push(Desired::new(Kind::PodDisruptionBudget, &budget)?);
    }
    let mut service = render::router_service(target);
    annotate(&mut service, SERVING_GROUP_ANNOTATION, serving.to_string());
    for service in [service, render::agents_service(target), render::router_control_service(target)]
    {
        objects.push(Desired::new(Kind::Service, &service)?);
    }
    Ok(objects)
}

/// The routers.
pub fn routers(target: &Target, replicas: u32) -> Result<Desired, DesiredError> {
    let deployment = render::router_deployment(target, signed(replicas));
    Desired::new(Kind::Deployment, &deployment)
}

/// The agents of one group. `spec` goes with them, for an operator that starts again while another model is wanted.
pub fn agents(
    target: &Target,
    group: &Group,
    replicas: u32,
    spec: &str,
) -> Result<Desired, DesiredError> {
    let mut set = render::agents_stateful_set(target, group, signed(replicas));
    annotate(&mut set, SPEC_ANNOTATION, spec.to_owned());
    Desired::new(Kind::StatefulSet, &set)
}

fn annotate<K: Resource>(object: &mut K, name: &str, value: String) {
    let annotations = object.meta_mut().annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(name.to_owned(), value);
}

fn signed(replicas: u32) -> i32 {
    i32::try_from(replicas).unwrap_or(i32::MAX)
}
