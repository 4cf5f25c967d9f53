//! What Prometheus' operator reads: who is scraped, and what raises an alert. Only applied where those kinds exist.

use super::Target;
use super::alerts::{self, Alert};
use super::names::Component;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// API group of ServiceMonitor and PrometheusRule.
pub const MONITORING_GROUP: &str = "monitoring.coreos.com";
/// Four points in the shortest window that alerts and dashboards look at, which is a minute.
const SCRAPE_INTERVAL: &str = "15s";

/// Labels by which a Prometheus chooses what it reads.
pub type MonitoringLabels = BTreeMap<String, String>;

/// Scrapes agents and routers; their series get the label `model_deployment`.
pub fn service_monitor(target: &Target, labels: &MonitoringLabels) -> DynamicObject {
    let names = target.names();
    let mut selector = names.selector(Component::Agent);
    selector.remove(super::COMPONENT_LABEL);
    let spec = json!({
        "selector": { "matchLabels": selector },
        "endpoints": [{
            "port": "http",
            "path": "/metrics",
            "interval": SCRAPE_INTERVAL,
            "relabelings": [{
                "targetLabel": "model_deployment",
                "replacement": target.request.name.as_str(),
            }],
        }],
    });
    dynamic((target, labels), ("ServiceMonitor", "servicemonitors"), &spec)
}

/// The deployment's alerts, against its own objectives.
pub fn prometheus_rule(target: &Target, labels: &MonitoringLabels) -> DynamicObject {
    let rules: Vec<Value> = alerts::of(target).iter().map(|it| rule(target, it)).collect();
    let group = format!("boyle.{}.{}", target.namespace, target.request.name);
    let spec = json!({ "groups": [{ "name": group, "rules": rules }] });
    dynamic((target, labels), ("PrometheusRule", "prometheusrules"), &spec)
}

fn rule(target: &Target, alert: &Alert) -> Value {
    json!({
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.lasting,
        "labels": {
            "severity": alert.severity.as_str(),
            "namespace": target.namespace,
            "model_deployment": target.request.name.as_str(),
        },
        "annotations": {
            "summary": alert.summary,
            "runbook": format!("docs/operate.md#{}", alert.name.to_lowercase()),
        },
    })
}

fn dynamic(
    (target, labels): (&Target, &MonitoringLabels),
    (kind, plural): (&str, &str),
    spec: &Value,
) -> DynamicObject {
    let kind = GroupVersionKind::gvk(MONITORING_GROUP, "v1", kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    let name = target.names().service();
    let mut metadata = target.metadata(name.clone(), Component::Router);
    let own = metadata.labels.take().unwrap_or_default();
    metadata.labels = Some(labels.clone().into_iter().chain(own).collect());
    let mut object = DynamicObject::new(&name, &resource).data(json!({ "spec": spec }));
    object.metadata = metadata;
    object
}
