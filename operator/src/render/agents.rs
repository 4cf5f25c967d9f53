//! The agents: one StatefulSet for each group, and the headless Service that gives them names.

use super::hashes::{Group, Revision};
use super::names::{
    AGENT_CONTAINER, AGENT_HTTP_PORT, AGENT_PORT, Component, GROUP_LABEL, REVISION_ANNOTATION,
    matching,
};
use super::pods::{
    HOST_KEY, Patience, TLS_DIRECTORY, container_security, field_variable, http_probe, mount,
    pod_security, spread_over_hosts, tls, variable,
};
use super::{Target, model_files};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    PodAffinityTerm, PodAntiAffinity, PodSpec, PodTemplateSpec, ResourceFieldSelector,
    ResourceRequirements, Service, ServicePort, ServiceSpec, Volume, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// What an agent writes: the last assignment, fetched models. It lives as long as the pod.
const DATA_DIRECTORY: &str = "/var/lib/boyle";
const DATA_VOLUME: &str = "data";
/// An agent answers its sequences' routers and exits long before; this is for one that does not.
const TERMINATION_SECONDS: i64 = 120;
/// The longest that a stopping agent goes on for its sequences and for peers that still need its experts; the rest of
/// its grace is for closing.
const SHUTDOWN_SECONDS: i64 = TERMINATION_SECONDS - 20;
/// Of the scheduler's weights the largest: copies on one host are lost together.
const SPREAD_WEIGHT: i32 = 100;

/// The process is up within this: two minutes, on a machine that is busy loading weights for others.
const STARTUP: Patience = Patience { period_seconds: 2, timeout_seconds: 2, failures: 60 };
/// With the ten seconds after which a hung engine calls itself dead, it is killed within thirty.
const LIVENESS: Patience = Patience { period_seconds: 5, timeout_seconds: 5, failures: 3 };
const READINESS: Patience = Patience { period_seconds: 2, timeout_seconds: 2, failures: 2 };

/// The agents of one group.
pub fn agents_stateful_set(target: &Target, group: &Group, replicas: i32) -> StatefulSet {
    let names = target.names();
    let mut metadata = target.metadata(names.stateful_set(group), Component::Agent);
    with_group(&mut metadata, group);
    let mut selector = names.selector(Component::Agent);
    selector.insert(GROUP_LABEL.to_owned(), group.to_string());
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas),
            service_name: Some(names.agents()),
            selector: matching(selector),
            pod_management_policy: Some("Parallel".to_owned()),
            // The operator drains an agent before it deletes its pod; nobody else decides.
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            template: target.pods.lay_over(template(target, group)),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// Gives each agent a name, ready or not: agents reach each other while they load.
pub fn agents_service(target: &Target) -> Service {
    let names = target.names();
    Service {
        metadata: target.metadata(names.agents(), Component::Agent),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names.selector(Component::Agent)),
            ports: Some(vec![port("grpc", AGENT_PORT), port("http", AGENT_HTTP_PORT)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

fn with_group(metadata: &mut ObjectMeta, group: &Group) {
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(GROUP_LABEL.to_owned(), group.to_string());
}

fn template(target: &Target, group: &Group) -> PodTemplateSpec {
    let names = target.names();
    let mut metadata =
        ObjectMeta { labels: Some(names.labels(Component::Agent)), ..ObjectMeta::default() };
    with_group(&mut metadata, group);
    let revision = Revision::of(target).to_string();
    metadata.annotations = Some(BTreeMap::from([(REVISION_ANNOTATION.to_owned(), revision)]));
    let (tls_volume, tls_mount) = tls(names.agent_tls());
    let data = Volume {
        name: DATA_VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    };
    let mut volumes = vec![data, tls_volume];
    let mut mounts = vec![mount(DATA_VOLUME, DATA_DIRECTORY, None), tls_mount];
    if let Some((volume, mount)) = model_files::volume(target) {
        volumes.push(volume);
        mounts.push(mount);
    }
    let mut container = container(target);
    container.volume_mounts = Some(mounts);
    let spec = PodSpec {
        service_account_name: Some(names.agent_account()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        termination_grace_period_seconds: Some(TERMINATION_SECONDS),
        affinity: Some(apart(names.selector(Component::Agent))),
        topology_spread_constraints: Some(vec![spread_over_hosts(
            names.selector(Component::Agent),
        )]),
        containers: vec![container],
        volumes: Some(volumes),
        ..PodSpec::default()
    };
    PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) }
}

fn container(target: &Target) -> Container {
    let ports = [("grpc", AGENT_PORT), ("http", AGENT_HTTP_PORT)];
    let ports = ports.map(|(name, port)| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    });
    Container {
        name: AGENT_CONTAINER.to_owned(),
        image: Some(target.image.clone()),
        args: Some(vec!["agent".to_owned()]),
        env: Some(variables(target)),
        env_from: model_files::secret_variables(target),
        ports: Some(ports.to_vec()),
        resources: Some(resources(target)),
        security_context: Some(container_security()),
        startup_probe: Some(http_probe("/livez", AGENT_HTTP_PORT, STARTUP)),
        liveness_probe: Some(http_probe("/livez", AGENT_HTTP_PORT, LIVENESS)),
        readiness_probe: Some(http_probe("/readyz", AGENT_HTTP_PORT, READINESS)),
        ..Container::default()
    }
}

fn variables(target: &Target) -> Vec<EnvVar> {
    let mut variables = vec![
        field_variable("BOYLE_AGENT_ID", "metadata.name"),
        variable("BOYLE_LISTEN", format!("0.0.0.0:{AGENT_PORT}")),
        variable("BOYLE_HTTP_LISTEN", format!("0.0.0.0:{AGENT_HTTP_PORT}")),
        variable("BOYLE_STATE_DIRECTORY", format!("{DATA_DIRECTORY}/state")),
        variable("BOYLE_MODEL_DIRECTORY", format!("{DATA_DIRECTORY}/models")),
        variable("BOYLE_TLS_DIRECTORY", TLS_DIRECTORY),
        variable("BOYLE_SHUTDOWN_SECONDS", SHUTDOWN_SECONDS.to_string()),
    ];
    variables.extend(model_files::variables(target));
    variables.extend(memory_variable(target));
    variables
}

/// The memory limit. Without one the downward API would tell the whole machine's memory, which others use too.
fn memory_variable(target: &Target) -> Option<EnvVar> {
    target.pods.resources().limits.as_ref()?.get("memory")?;
    let resource = ResourceFieldSelector {
        resource: "limits.memory".to_owned(),
        ..ResourceFieldSelector::default()
    };
    Some(EnvVar {
        name: "BOYLE_MEMORY_BYTES".to_owned(),
        value_from: Some(EnvVarSource {
            resource_field_ref: Some(resource),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    })
}

fn resources(target: &Target) -> ResourceRequirements {
    let mut resources = target.pods.resources().clone();
    if let Some(accelerator) = &target.request.accelerator {
        // Extended resources take their request from the limit.
        let count = Quantity(accelerator.count.to_string());
        let limits = resources.limits.get_or_insert_default();
        limits.insert(accelerator.resource.clone(), count);
    }
    resources
}

fn apart(labels: BTreeMap<String, String>) -> Affinity {
    let term = PodAffinityTerm {
        topology_key: HOST_KEY.to_owned(),
        label_selector: Some(matching(labels)),
        ..PodAffinityTerm::default()
    };
    let preferred = WeightedPodAffinityTerm { weight: SPREAD_WEIGHT, pod_affinity_term: term };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![preferred]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}
