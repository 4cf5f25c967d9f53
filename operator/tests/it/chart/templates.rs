//! What Helm makes of the chart.

use super::{VARIANTS, chart, helm, objects, stderr};
use serde_json::Value;

/// Kinds of the chart that have no namespace.
const CLUSTER_KINDS: &[&str] = &["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"];

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The pod of a Deployment or of a test, if there is one.
fn pod(object: &Value) -> Option<&Value> {
    match text(object, "/kind") {
        "Deployment" => object.pointer("/spec/template/spec"),
        "Pod" => object.pointer("/spec"),
        _ => None,
    }
}

#[test]
fn lint_finds_nothing_in_any_variant() {
    for (name, arguments) in VARIANTS {
        let settings = arguments.iter().filter(|argument| argument.starts_with("--set"));
        let output =
            helm().args(["lint", "--strict"]).arg(chart()).args(settings).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {said}{}", stderr(&output));
    }
}

/// `helm template | kubectl apply` puts everything where it belongs, without Helm's help.
#[test]
fn every_object_says_its_namespace_and_has_a_fixed_name() {
    for (name, arguments) in VARIANTS {
        for object in objects(arguments) {
            let (kind, metadata) = (text(&object, "/kind"), &object["metadata"]);
            let namespace = text(&object, "/metadata/namespace");
            if CLUSTER_KINDS.contains(&kind) {
                assert_eq!(namespace, "", "{name}: {kind}");
            } else {
                assert!(["boyle-system", "models"].contains(&namespace), "{name}: {kind}");
            }
            assert!(text(&object, "/metadata/name").starts_with("boyle"), "{name}: {metadata}");
            assert_eq!(text(metadata, "/labels/app.kubernetes.io~1name"), "boyle", "{metadata}");
        }
    }
}

#[test]
fn every_pod_satisfies_the_restricted_pod_security_standard() {
    for (name, arguments) in VARIANTS {
        let objects = objects(arguments);
        let pods: Vec<&Value> = objects.iter().filter_map(pod).collect();
        assert_eq!(pods.len(), 2, "{name}: the operator and the test");
        for pod in pods {
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
            for container in pod["containers"].as_array().unwrap() {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false);
                assert_eq!(security["readOnlyRootFilesystem"], true);
                assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
                assert!(container.get("command").is_none(), "the image has no shell");
                assert!(container["resources"]["requests"]["memory"].is_string());
            }
        }
    }
}

#[test]
fn names_of_one_kind_and_namespace_differ() {
    for (name, arguments) in VARIANTS {
        let objects = objects(arguments);
        let mut keys: Vec<[&str; 3]> = objects
            .iter()
            .map(|it| ["/kind", "/metadata/namespace", "/metadata/name"].map(|at| text(it, at)))
            .collect();
        keys.sort_unstable();
        let before = keys.len();
        keys.dedup();
        assert_eq!(before, keys.len(), "{name}");
    }
}

#[test]
fn monitoring_objects_are_there_only_where_their_kinds_are() {
    let monitoring = |arguments: &[&str]| {
        let objects = objects(arguments);
        objects.iter().filter(|it| text(it, "/apiVersion").starts_with("monitoring.")).count()
    };
    let cases: &[(&[&str], usize)] = &[
        (&[], 0),
        (&[super::MONITORING], 2),
        (&["--set=monitoring.enabled=true"], 2),
        (&[super::MONITORING, "--set=monitoring.enabled=false"], 0),
    ];
    for (arguments, expected) in cases {
        assert_eq!(monitoring(arguments), *expected, "{arguments:?}");
    }
}

#[test]
fn images_are_the_charts_version_a_tag_or_a_digest() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let version = env!("CARGO_PKG_VERSION");
    let by_digest = format!("--set=image.repository=r.example:5000/o,image.digest={digest}");
    let cases: &[(&[&str], String, String)] = &[
        (
            &[],
            format!("boyle.local/boyle-operator:{version}"),
            format!("boyle.local/boyle:{version}"),
        ),
        (
            &["--set=image.tag=v1,servingImage.tag=v2"],
            "boyle.local/boyle-operator:v1".to_owned(),
            "boyle.local/boyle:v2".to_owned(),
        ),
        (
            &[&by_digest],
            format!("r.example:5000/o@{digest}"),
            format!("boyle.local/boyle:{version}"),
        ),
    ];
    for (arguments, operator, serving) in cases {
        let objects = objects(arguments);
        let deployment = objects.iter().find(|it| it["kind"] == "Deployment").unwrap();
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(&container["image"], operator);
        let variables = container["env"].as_array().unwrap();
        let image = variables.iter().find(|it| it["name"] == "BOYLE_SERVING_IMAGE").unwrap();
        assert_eq!(&image["value"], serving);
    }
}
