//! What protects the pods: disruption budgets, network policies, accounts without rights.

use super::Target;
use super::names::{
    AGENT_HTTP_PORT, AGENT_PORT, COMPONENT_LABEL, Component, NAME_LABEL, ROUTER_CONTROL_PORT,
    ROUTER_PORT, matching,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// The label that every namespace has by itself.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// Accounts for identity only: they are bound to no role, and no token of theirs is mounted.
pub fn service_accounts(target: &Target) -> [ServiceAccount; 2] {
    let names = target.names();
    let account = |name, component| ServiceAccount {
        metadata: target.metadata(name, component),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    [account(names.agent_account(), Component::Agent), account(names.router(), Component::Router)]
}

/// Node drains take one pod of a kind at a time.
pub fn pod_disruption_budgets(target: &Target) -> [PodDisruptionBudget; 2] {
    let names = target.names();
    let budget = |name, component| PodDisruptionBudget {
        metadata: target.metadata(name, component),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(matching(names.selector(component))),
            // A pod that does not work must not keep its node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    };
    [budget(names.agents(), Component::Agent), budget(names.router(), Component::Router)]
}

/// Who may connect: to agents their own deployment and the operator, to routers' control the operator, and everybody
/// to health, metrics and the API.
pub fn network_policies(target: &Target) -> [NetworkPolicy; 2] {
    let names = target.names();
    let own = |component| NetworkPolicyPeer {
        pod_selector: Some(matching(names.selector(component))),
        ..NetworkPolicyPeer::default()
    };
    let callers = vec![own(Component::Agent), own(Component::Router), operator(target)];
    let agents = vec![rule(AGENT_PORT, Some(callers)), rule(AGENT_HTTP_PORT, None)];
    let routers =
        vec![rule(ROUTER_PORT, None), rule(ROUTER_CONTROL_PORT, Some(vec![operator(target)]))];
    let policy = |name, component, ingress| NetworkPolicy {
        metadata: target.metadata(name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(matching(names.selector(component))),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(ingress),
            ..NetworkPolicySpec::default()
        }),
    };
    [
        policy(names.agents(), Component::Agent, agents),
        policy(names.router(), Component::Router, routers),
    ]
}

/// From `None` means from everywhere.
fn rule(port: u16, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    let port = NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(port))),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    };
    NetworkPolicyIngressRule { from, ports: Some(vec![port]) }
}

fn operator(target: &Target) -> NetworkPolicyPeer {
    let namespace = (NAMESPACE_LABEL.to_owned(), target.operator_namespace.clone());
    let pods = BTreeMap::from([
        (NAME_LABEL.to_owned(), "boyle".to_owned()),
        (COMPONENT_LABEL.to_owned(), Component::Operator.as_str().to_owned()),
    ]);
    NetworkPolicyPeer {
        namespace_selector: Some(matching(BTreeMap::from([namespace]))),
        pod_selector: Some(matching(pods)),
        ..NetworkPolicyPeer::default()
    }
}
