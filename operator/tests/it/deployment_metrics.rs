//! A deployment's status as Prometheus sees it.

use crds::{AgentsStatus, ExpertsStatus, ModelDeploymentStatus, RoutersStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use operator::deployment_metrics::{DeploymentMetrics, Reference, Shown};
use planner::cost::{Cost, Tokens};

fn condition(type_: &str, status: &str, reason: &str) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    }
}

fn shown(reason: &str) -> Shown {
    Shown {
        status: ModelDeploymentStatus {
            agents: Some(AgentsStatus::new(2, 3)),
            routers: Some(RoutersStatus { ready: 1, desired: 2 }),
            experts: Some(ExpertsStatus::new(60, 4, 1)),
            conditions: vec![
                condition("Available", "True", "Serving"),
                condition("Degraded", "True", reason),
                condition("Accepted", "False", "InvalidSpec"),
            ],
            ..ModelDeploymentStatus::default()
        },
        cost: Some(Cost {
            per_million_tokens: Some(0.25),
            total: 1.0,
            currency: "USD".to_owned(),
            idle_share: 0.5,
            agent_hours: 1.0,
            window_seconds: 3_600,
            tokens: Tokens::default(),
        }),
        reference: Some(Reference { model: "openai/o1".to_owned(), per_million_tokens: 40.5 }),
    }
}

#[test]
fn a_status_becomes_series() {
    let metrics = DeploymentMetrics::default();
    metrics.show("models", "r1", shown("ExpertsMissing"));
    let text = metrics.render().unwrap();
    let who = r#"model_deployment="r1",namespace="models""#;
    let expected = [
        format!("boyle_operator_agents_ready{{{who}}} 2"),
        format!("boyle_operator_agents_desired{{{who}}} 3"),
        format!("boyle_operator_routers_ready{{{who}}} 1"),
        format!("boyle_operator_routers_desired{{{who}}} 2"),
        format!("boyle_operator_experts_placed{{{who}}} 60"),
        format!("boyle_operator_experts_missing{{{who}}} 4"),
        format!("boyle_operator_expert_copies{{{who}}} 1"),
        format!("boyle_operator_condition{{condition=\"Available\",{who},reason=\"Serving\"}} 1"),
        format!(
            "boyle_operator_condition{{condition=\"Accepted\",{who},reason=\"InvalidSpec\"}} 0"
        ),
        format!("boyle_operator_cost_per_million_tokens{{currency=\"USD\",{who}}} 0.25"),
        format!("boyle_operator_idle_share{{{who}}} 0.5"),
        format!(
            "boyle_operator_reference_cost_per_million_tokens\
             {{currency=\"USD\",{who},reference=\"openai/o1\"}} 40.5"
        ),
    ];
    for line in expected {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
}

#[test]
fn what_has_passed_leaves_no_series() {
    let metrics = DeploymentMetrics::default();
    metrics.show("models", "r1", shown("ExpertsMissing"));
    metrics.show("models", "r1", shown("CopiesMissing"));
    let text = metrics.render().unwrap();
    assert!(text.contains("CopiesMissing") && !text.contains("ExpertsMissing"), "{text}");
    metrics.forget("models", "r1");
    assert_eq!(metrics.render().unwrap(), "");
    metrics.show("models", "r1", shown("CopiesMissing"));
    metrics.clear();
    assert_eq!(metrics.render().unwrap(), "");
}
