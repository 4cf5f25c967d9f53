//! The chart and the operator's objects on a real API server: what it takes, and what it is left with.

use super::{VARIANTS, chart, helm, parse, stderr, stdout, template};
use crate::render;
use cluster::ControlPlane;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

/// Kinds that Prometheus' operator brings, with nothing but their names.
const MONITORING_KINDS: &str = include_str!("monitoring-kinds.yaml");
/// For what controllers do by themselves: make pods, delete what has no owner.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

struct World {
    plane: ControlPlane,
    folder: tempfile::TempDir,
}

impl World {
    /// A cluster with two namespaces that take restricted pods only.
    fn new() -> Self {
        let world =
            Self { plane: ControlPlane::start().unwrap(), folder: tempfile::tempdir().unwrap() };
        for namespace in ["boyle-system", "models"] {
            world.kubectl(&["create", "namespace", namespace]);
            let labels = ["enforce", "warn"]
                .map(|mode| format!("pod-security.kubernetes.io/{mode}=restricted"));
            world.kubectl(&["label", "namespace", namespace, &labels[0], &labels[1]]);
        }
        world
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.plane.kubectl(arguments.iter().copied()).unwrap()
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        stdout(&self.run(arguments))
    }

    fn helm(&self, arguments: &[&str]) -> Output {
        helm().args(arguments).env("KUBECONFIG", self.plane.kubeconfig()).output().unwrap()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// What the API server says of a manifest without doing anything.
    fn dry_run(&self, name: &str, text: &str) -> Output {
        let path = self.file(name, text);
        let path = path.to_str().unwrap();
        self.run(&["apply", "--server-side", "--dry-run=server", "--filename", path])
    }

    fn install_monitoring_kinds(&self) {
        let path = self.file("kinds.yaml", MONITORING_KINDS);
        self.kubectl(&["apply", "--filename", path.to_str().unwrap()]);
        self.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd/servicemonitors.monitoring.coreos.com",
            "crd/prometheusrules.monitoring.coreos.com",
        ]);
    }

    /// The chart's objects that there are, as kind/name.
    fn installed(&self) -> Vec<String> {
        let kinds = "deployments,services,serviceaccounts,configmaps,secrets,roles,rolebindings,\
                     clusterroles,clusterrolebindings,poddisruptionbudgets,networkpolicies,pods,\
                     replicasets,leases";
        let text = self.kubectl(&[
            "get",
            kinds,
            "--all-namespaces",
            "--selector=app.kubernetes.io/name=boyle",
            "--output=name",
        ]);
        text.lines().map(str::to_owned).collect()
    }

    fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "{what}; there are {:?}", self.installed());
            std::thread::sleep(PAUSE);
        }
    }
}

#[test]
fn an_api_server_takes_every_variant_without_a_warning() {
    let world = World::new();
    world.install_monitoring_kinds();
    // A dry run makes no account, and admission of the test's pod looks for it.
    world.kubectl(&["create", "serviceaccount", "boyle-operator", "--namespace=boyle-system"]);
    for (name, arguments) in VARIANTS {
        let arguments = [arguments, &["--include-crds"][..]].concat();
        let text = stdout(&template(&arguments));
        let output = world.dry_run(&format!("{name}.yaml"), &text);
        let warnings = stderr(&output);
        assert!(output.status.success() && warnings.is_empty(), "{name}: {warnings}");
    }
}

/// Defaults, validation and the restricted Pod Security Standard, for everything that the operator will apply.
#[test]
fn an_api_server_takes_every_rendered_object_without_a_warning() {
    let world = World::new();
    world.install_monitoring_kinds();
    for (name, manifest) in render::CASES {
        let objects = render::objects(&render::target(manifest));
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let output = world.dry_run(&format!("{name}.json"), &list.to_string());
        let warnings = stderr(&output);
        assert!(output.status.success() && warnings.is_empty(), "{name}: {warnings}");
    }
}

#[test]
fn install_upgrade_rollback_and_uninstall_leave_the_resource_and_nothing_else() {
    let world = World::new();
    let folder = chart();
    let chart = folder.to_str().unwrap();
    let place = ["--namespace=boyle-system"];
    let notes = stdout(&world.helm(&[&["install", "boyle", chart], &place[..]].concat()));
    let resource = "customresourcedefinition.apiextensions.k8s.io/modeldeployments.boyle.dev";
    assert!(world.kubectl(&["get", "crd", "--output=name"]).contains(resource));
    // Admission lets the operator's pods in; no node is there to run them.
    let pods = || world.installed().iter().filter(|it| it.starts_with("pod/")).count();
    world.wait_for("two pods of the operator", || pods() == 2);
    apply_what_the_notes_say(&world, &notes);

    let before = stdout(&world.helm(&[&["get", "manifest", "boyle"], &place[..]].concat()));
    let change = ["--set=replicas=1", "--set=networkPolicy.enabled=false"];
    stdout(&world.helm(&[&["upgrade", "boyle", chart], &place[..], &change].concat()));
    world.wait_for("one pod of the operator", || pods() == 1);
    let policies = ["get", "networkpolicies", "--namespace=boyle-system", "--output=name"];
    assert!(!world.kubectl(&policies).contains("boyle-operator"));

    stdout(&world.helm(&[&["rollback", "boyle", "1"], &place[..]].concat()));
    world.wait_for("two pods of the operator again", || pods() == 2);
    assert!(world.kubectl(&policies).contains("boyle-operator"));
    let after = stdout(&world.helm(&[&["get", "manifest", "boyle"], &place[..]].concat()));
    assert_eq!(before, after);

    stdout(&world.helm(&[&["uninstall", "boyle"], &place[..]].concat()));
    world.wait_for("nothing of the chart", || world.installed().is_empty());
    assert!(world.kubectl(&["get", "crd", "--output=name"]).contains(resource));
    let left = world.kubectl(&["get", "modeldeployments.boyle.dev", "-A", "--output=name"]);
    assert!(left.contains("tiny-r1"), "what is deployed stays: {left}");
}

/// The manifest in the notes is what a person copies first.
fn apply_what_the_notes_say(world: &World, notes: &str) {
    let (_, rest) = notes.split_once("<<'YAML'\n").unwrap();
    let (manifest, _) = rest.split_once("YAML\n").unwrap();
    let manifest: Vec<&str> = manifest.lines().map(str::trim).collect();
    let manifest = manifest.join("\n");
    assert_eq!(parse(&manifest)[0]["kind"], "ModelDeployment");
    let path = world.file("five-lines.yaml", &manifest);
    world.kubectl(&["apply", "--namespace=models", "--filename", path.to_str().unwrap()]);
}
