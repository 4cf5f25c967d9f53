//! The chart: what Helm makes of it, and what an API server makes of that.

mod alerts;
mod dashboards;
mod documents;
mod install;
mod rights;
mod templates;
mod values;

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Prometheus' operator, as `helm template` is told of it.
pub const MONITORING: &str = "--api-versions=monitoring.coreos.com/v1";

/// Ways to install, each with what it is for.
pub const VARIANTS: &[(&str, &[&str])] = &[
    ("as it is", &[]),
    ("with Prometheus' operator", &[MONITORING]),
    ("one namespace", &["--set=watchNamespace=models"]),
    (
        "much",
        &[
            MONITORING,
            "--set=replicas=3,priorityClassName=high,imagePullSecrets[0].name=registry",
            "--set=nodeSelector.pool=system,podLabels.team=ml,podAnnotations.note=x",
            "--set=tolerations[0].key=system,tolerations[0].operator=Exists",
            "--set=image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "--set=monitoring.labels.release=prometheus,dashboards.annotations.grafana_folder=Boyle",
            "--set=serviceAccount.annotations.example\\.com/role=x",
        ],
    ),
    (
        "little",
        &[
            "--set=replicas=1,podDisruptionBudget.enabled=false,networkPolicy.enabled=false",
            "--set=dashboards.enabled=false,monitoring.enabled=false",
            "--set=rbac.aggregateToDefaultRoles=false",
        ],
    ),
];

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    root().join("charts/boyle")
}

/// A Helm that knows no other configuration than what it is told.
pub fn helm() -> Command {
    let program = cluster::tools::HELM.built().unwrap().join("helm");
    let mut command = Command::new(program);
    let home = std::env::temp_dir().join("boyle-helm");
    command.env("HELM_CONFIG_HOME", &home).env("HELM_CACHE_HOME", &home);
    command.env("HELM_DATA_HOME", &home).env_remove("KUBECONFIG");
    command
}

/// `helm template` with some arguments.
pub fn template(arguments: &[&str]) -> Output {
    let mut command = helm();
    command.args(["template", "boyle"]).arg(chart()).args(["--namespace", "boyle-system"]);
    command.args(arguments).output().unwrap()
}

/// The objects of `helm template`.
pub fn objects(arguments: &[&str]) -> Vec<Value> {
    parse(&stdout(&template(arguments)))
}

/// The documents of a YAML file.
pub fn parse(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    documents.into_iter().filter(|it| !it.is_null()).collect()
}

/// What a program said, which must have succeeded.
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a program complained of.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file of the repository.
pub fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
