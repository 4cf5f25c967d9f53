//! The routers: a Deployment that never has fewer than it should, and the Services to reach them.

use super::Target;
use super::names::{Component, ROUTER_CONTAINER, ROUTER_CONTROL_PORT, ROUTER_PORT, matching};
use super::pods::{
    Patience, TLS_DIRECTORY, container_security, http_probe, pod_security, spread_over_hosts, tls,
    variable,
};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, PodSpec, PodTemplateSpec, ResourceRequirements, Service, ServicePort,
    ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// Requests wait this long while no agent can take them: ten minutes, the patience of OpenAI's own clients, in which a
/// sleeping deployment has to load its model.
const HOLD_SECONDS: u32 = 600;
/// A router that is told to stop takes requests this long, until every node has heard that it leaves and, where it was
/// the only one, its successor is ready.
const DRAIN_SECONDS: u32 = 15;
/// Running streams may end after that: half an hour, for 32,768 tokens at 50 ms each.
const SHUTDOWN_SECONDS: u32 = 1_800;
/// Between the end of the router's own waits and the kubelet's signal that cannot be refused.
const TERMINATION_MARGIN_SECONDS: u32 = 30;

const STARTUP: Patience = Patience { period_seconds: 1, timeout_seconds: 2, failures: 60 };
const LIVENESS: Patience = Patience { period_seconds: 5, timeout_seconds: 5, failures: 3 };
/// Forgives more than `DRAIN_SECONDS`: a router that stops is taken from new connections by Kubernetes anyway, and as
/// the only one it still serves those that come before its successor is ready.
const READINESS: Patience = Patience { period_seconds: 3, timeout_seconds: 3, failures: 7 };

/// A router parses JSON and passes tokens on; bodies being parsed take at most 0.5 GiB.
const CPU_REQUEST: &str = "250m";
const MEMORY_REQUEST: &str = "256Mi";
const MEMORY_LIMIT: &str = "2Gi";

/// The routers.
pub fn router_deployment(target: &Target, replicas: i32) -> Deployment {
    let names = target.names();
    Deployment {
        metadata: target.metadata(names.router(), Component::Router),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: matching(names.selector(Component::Router)),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: template(target),
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// What clients use.
pub fn router_service(target: &Target) -> Service {
    let names = target.names();
    Service {
        metadata: target.metadata(names.service(), Component::Router),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(names.selector(Component::Router)),
            ports: Some(vec![port("http", 80, ROUTER_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// How the operator finds each router; one that is not ready yet is told its homes, which makes it ready.
pub fn router_control_service(target: &Target) -> Service {
    let names = target.names();
    Service {
        metadata: target.metadata(names.router(), Component::Router),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names.selector(Component::Router)),
            ports: Some(vec![port("control", ROUTER_CONTROL_PORT, ROUTER_CONTROL_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: u16, target: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::Int(i32::from(target))),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

fn template(target: &Target) -> PodTemplateSpec {
    let names = target.names();
    let (volume, mount) = tls(names.router_tls());
    let mut container = container(target);
    container.volume_mounts = Some(vec![mount]);
    let wait = DRAIN_SECONDS + SHUTDOWN_SECONDS + TERMINATION_MARGIN_SECONDS;
    let spec = PodSpec {
        service_account_name: Some(names.router()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        termination_grace_period_seconds: Some(i64::from(wait)),
        topology_spread_constraints: Some(vec![spread_over_hosts(
            names.selector(Component::Router),
        )]),
        // Both kinds of pods run the same image, and there is one place to say who may pull it.
        image_pull_secrets: target.pods.image_pull_secrets(),
        containers: vec![container],
        volumes: Some(vec![volume]),
        ..PodSpec::default()
    };
    let labels = names.labels(Component::Router);
    let metadata = ObjectMeta { labels: Some(labels), ..ObjectMeta::default() };
    PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) }
}

fn container(target: &Target) -> Container {
    let ports = [("http", ROUTER_PORT), ("control", ROUTER_CONTROL_PORT)];
    let ports = ports.map(|(name, port)| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    });
    let variables = vec![
        variable("BOYLE_LISTEN", format!("0.0.0.0:{ROUTER_PORT}")),
        variable("BOYLE_CONTROL_LISTEN", format!("0.0.0.0:{ROUTER_CONTROL_PORT}")),
        variable("BOYLE_TLS_DIRECTORY", TLS_DIRECTORY),
        variable("BOYLE_HOLD_SECONDS", HOLD_SECONDS.to_string()),
        variable("BOYLE_DRAIN_SECONDS", DRAIN_SECONDS.to_string()),
        variable("BOYLE_SHUTDOWN_SECONDS", SHUTDOWN_SECONDS.to_string()),
    ];
    Container {
        name: ROUTER_CONTAINER.to_owned(),
        image: Some(target.image.clone()),
        args: Some(vec!["router".to_owned()]),
        env: Some(variables),
        ports: Some(ports.to_vec()),
        resources: Some(resources()),
        security_context: Some(container_security()),
        startup_probe: Some(http_probe("/livez", ROUTER_PORT, STARTUP)),
        liveness_probe: Some(http_probe("/livez", ROUTER_PORT, LIVENESS)),
        readiness_probe: Some(http_probe("/readyz", ROUTER_PORT, READINESS)),
        ..Container::default()
    }
}

fn resources() -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| {
        let pairs =
            pairs.iter().map(|(name, text)| ((*name).to_owned(), Quantity((*text).to_owned())));
        Some(pairs.collect::<BTreeMap<_, _>>())
    };
    ResourceRequirements {
        requests: quantities(&[("cpu", CPU_REQUEST), ("memory", MEMORY_REQUEST)]),
        limits: quantities(&[("memory", MEMORY_LIMIT)]),
        ..ResourceRequirements::default()
    }
}
