//! What a real API server makes of the definition.

use crate::generated::schema;
use crate::tables::{Case, cases};
use cluster::ControlPlane;
use crds::{
    AgentDetail, AgentsStatus, ConditionReason, ConditionStatus, ConditionType, ExpertsStatus,
    ModelDeployment, ModelDeploymentStatus, ModelStatus, Observed, Phase, PlanStatus,
    RolloutStatus, RoutersStatus, parse_yaml, update,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Stdout, or stderr when kubectl fails.
fn kubectl(plane: &ControlPlane, arguments: &[&str]) -> Result<String, String> {
    let output = plane.kubectl(arguments.iter().copied()).expect("kubectl starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn done(plane: &ControlPlane, arguments: &[&str]) -> String {
    let said = kubectl(plane, arguments);
    assert!(said.is_ok(), "{arguments:?}: {said:?}");
    said.unwrap_or_default()
}

/// One control plane for all: it takes seconds to start.
#[test]
fn the_api_server_takes_what_is_right_and_refuses_what_is_wrong() {
    let plane = ControlPlane::start().expect("a control plane");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(crds::DEFINITION_FILE);
    let applied = plane.kubectl(["apply", "-f", &file.display().to_string()]).expect("kubectl");
    let said = String::from_utf8_lossy(&applied.stderr);
    assert!(applied.status.success() && said.is_empty(), "the definition: {said}");
    done(
        &plane,
        &["wait", "--for=condition=Established", "--timeout=30s", "crd/modeldeployments.boyle.dev"],
    );

    cases("bad").iter().for_each(|case| refused(&plane, case));
    cases("good").iter().for_each(|case| taken(&plane, case));
    every_field_is_explained(&plane);
    every_field_of_the_status_is_kept(&plane);
    columns_are_what_people_look_for(&plane);
    scaling_works(&plane);
    changes_that_cannot_work_are_refused(&plane);
}

fn refused(plane: &ControlPlane, case: &Case) {
    let said = kubectl(plane, &["create", "-f", &case.file.display().to_string()]);
    assert!(said.is_err(), "{} was taken: {said:?}", case.name);
    let said = said.err().unwrap_or_default();
    for words in case.says() {
        assert!(said.contains(words), "{}: {words:?} is not in {said}", case.name);
    }
}

/// Taken, and with the same defaults as without a cluster.
fn taken(plane: &ControlPlane, case: &Case) {
    let created = done(plane, &["create", "-o", "json", "-f", &case.file.display().to_string()]);
    let created: ModelDeployment = serde_json::from_str(&created).expect("the type reads it");
    let manifest = parse_yaml(&case.text).expect("a good manifest");
    assert_eq!(created.spec, manifest.spec, "{}", case.name);
    assert!(crds::to_request(&created).is_ok(), "{}", case.name);
}

fn every_field_is_explained(plane: &ControlPlane) {
    let explained = done(plane, &["explain", "mdep", "--recursive"]);
    let shown: BTreeSet<&str> =
        explained.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let schema = schema();
    fn names<'a>(schema: &'a Value, found: &mut BTreeSet<&'a str>) {
        schema.get("items").into_iter().for_each(|items| names(items, found));
        for (name, field) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            found.insert(name);
            names(field, found);
        }
    }
    let mut wanted = BTreeSet::new();
    names(&schema, &mut wanted);
    let missing: Vec<_> = wanted.difference(&shown).collect();
    assert!(missing.is_empty(), "kubectl explain does not show {missing:?}");
    let copies = done(plane, &["explain", "mdep.spec.experts.copies"]);
    assert!(copies.contains("on different hosts"), "{copies}");
}

fn status() -> ModelDeploymentStatus {
    let mut conditions = Vec::new();
    let now: Time = serde_json::from_value(json!("2026-01-02T03:04:05Z")).expect("a time");
    for condition in ConditionType::ALL {
        let observed = Observed {
            condition,
            status: ConditionStatus::Unknown,
            reason: ConditionReason::FactsMissing,
            message: "nothing is known yet".to_owned(),
        };
        update(&mut conditions, observed, Some(1), &now);
    }
    ModelDeploymentStatus {
        phase: Some(Phase::Available),
        conditions,
        observed_generation: Some(1),
        url: Some("http://tiny-r1.default.svc".to_owned()),
        agents: Some(AgentsStatus::new(3, 4)),
        routers: Some(RoutersStatus { ready: 1, desired: 2 }),
        experts: Some(ExpertsStatus::new(63, 1, 0)),
        tokens_per_second: Some("120".to_owned()),
        cost_per_million_tokens: Some("0.42 USD".to_owned()),
        plan: Some(PlanStatus { generation: 7, hash: "0123abcd".to_owned() }),
        image: Some("registry.example/boyle:1".to_owned()),
        model: Some(ModelStatus {
            fingerprint: Some("89ab".to_owned()),
            revision: Some("cdef".to_owned()),
            architecture: Some("DeepseekV3ForCausalLM".to_owned()),
            context_length: Some(4096),
        }),
        selector: Some("boyle.dev/model-deployment=tiny-r1".to_owned()),
        agent_details: vec![AgentDetail {
            name: "tiny-r1-agents-0123abcd-3".to_owned(),
            node: Some("node-4".to_owned()),
            condition: "lost".to_owned(),
            message: "its node does not answer".to_owned(),
        }],
        rollout: Some(RolloutStatus { updated: 1, total: 4, message: "draining".to_owned() }),
    }
}

fn every_field_of_the_status_is_kept(plane: &ControlPlane) {
    let wanted = status();
    let patch = json!({"status": wanted}).to_string();
    let patched = done(
        plane,
        &[
            "patch",
            "mdep",
            "tiny-r1",
            "--subresource=status",
            "--type=merge",
            "-o",
            "json",
            "-p",
            &patch,
        ],
    );
    let patched: ModelDeployment = serde_json::from_str(&patched).expect("the type reads it");
    assert_eq!(patched.status, Some(wanted));
    // Another version's word does not make an object unreadable.
    let mut later = serde_json::to_value(&patched).expect("JSON");
    later["status"]["phase"] = "Levitating".into();
    later["spec"]["antigravity"] = true.into();
    let later: ModelDeployment = serde_json::from_value(later).expect("the type reads it");
    assert_eq!(later.status.and_then(|it| it.phase), Some(Phase::Unknown));
}

fn columns_are_what_people_look_for(plane: &ControlPlane) {
    let table = done(plane, &["get", "mdep", "tiny-r1"]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|it| it.split("  ").map(str::trim).filter(|it| !it.is_empty()).collect())
        .collect();
    assert_eq!(rows[0], ["NAME", "PHASE", "AGENTS", "EXPERTS", "TOK/S", "COST/MTOK", "URL", "AGE"]);
    let url = "http://tiny-r1.default.svc";
    assert_eq!(rows[1][..7], ["tiny-r1", "Available", "3/4", "63/64 ×0", "120", "0.42 USD", url]);
    assert!(done(plane, &["get", "boyle"]).contains("tiny-r1"), "the category");
}

fn scaling_works(plane: &ControlPlane) {
    done(plane, &["scale", "mdep", "tiny-r1", "--replicas=3"]);
    let path = "/apis/boyle.dev/v1alpha1/namespaces/default/modeldeployments/tiny-r1/scale";
    let scale: Value = serde_json::from_str(&done(plane, &["get", "--raw", path])).expect("JSON");
    assert_eq!(scale["spec"]["replicas"], 3);
    assert_eq!(
        scale["status"],
        json!({"replicas": 4, "selector": "boyle.dev/model-deployment=tiny-r1"})
    );
    assert_eq!(done(plane, &["get", "mdep", "tiny-r1", "-o", "jsonpath={.spec.agents.min}"]), "3");
}

/// Updates pass the same rules as creation; what is left of an object always works.
fn changes_that_cannot_work_are_refused(plane: &ControlPlane) {
    let said =
        kubectl(plane, &["scale", "mdep", "deepseek-r1", "--replicas=17"]).expect_err("max is 16");
    assert!(said.contains("spec.agents.max") && said.contains("spec.agents.min"), "{said}");
    let patch = r#"{"spec":{"agents":{"max":1}}}"#;
    let said = kubectl(plane, &["patch", "mdep", "deepseek-r1", "--type=merge", "-p", patch])
        .expect_err("copies are 2");
    assert!(said.contains("spec.experts.copies") && said.contains('2'), "{said}");
}
