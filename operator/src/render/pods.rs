//! What all pods have in common: hardening, probes, variables, volumes.

use super::names::matching;
use k8s_openapi::api::core::v1::{
    Capabilities, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector, PodSecurityContext,
    Probe, SeccompProfile, SecretVolumeSource, SecurityContext, TopologySpreadConstraint, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// User and group of every process; the images' own user.
const USER: i64 = 65_532;
/// Owner and group may read, nobody else: keys are in there. The pod's group is `USER`.
const SECRET_MODE: i32 = 0o440;
/// Where certificates are mounted.
pub(super) const TLS_DIRECTORY: &str = "/etc/boyle/tls";
const TLS_VOLUME: &str = "tls";
/// Where hosts are told apart.
pub(super) const HOST_KEY: &str = "kubernetes.io/hostname";

/// The pod's half of Pod Security Standard `restricted`.
pub(super) fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // Claims with hundreds of gigabytes are not walked on every start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// The container's half.
pub(super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        ..SecurityContext::default()
    }
}

/// How often a probe asks and how many failures it forgives.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub period_seconds: i32,
    pub timeout_seconds: i32,
    pub failures: i32,
}

pub(super) fn http_probe(path: &str, port: u16, patience: Patience) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(port)),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(patience.period_seconds),
        timeout_seconds: Some(patience.timeout_seconds),
        failure_threshold: Some(patience.failures),
        ..Probe::default()
    }
}

pub(super) fn variable(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), ..EnvVar::default() }
}

/// A variable with a field of the pod itself.
pub(super) fn field_variable(name: &str, path: &str) -> EnvVar {
    let field_ref = ObjectFieldSelector { field_path: path.to_owned(), ..Default::default() };
    let source = EnvVarSource { field_ref: Some(field_ref), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() }
}

/// The certificates' Secret and where it is mounted.
pub(super) fn tls(secret: String) -> (Volume, VolumeMount) {
    let volume = Volume {
        name: TLS_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(SECRET_MODE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    (volume, mount(TLS_VOLUME, TLS_DIRECTORY, Some(true)))
}

pub(super) fn mount(volume: &str, path: &str, read_only: Option<bool>) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    }
}

/// Pods with these labels go to different hosts as far as there are any.
pub(super) fn spread_over_hosts(labels: BTreeMap<String, String>) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: HOST_KEY.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(matching(labels)),
        ..TopologySpreadConstraint::default()
    }
}
