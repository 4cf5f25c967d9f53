//! Manifests that must be understood.

use crds::{Decimal, DeploymentRequest, ModelSource, Precision, parse_duration, parse_yaml};
use std::time::Duration;

/// Every field of the resource.
pub const FULL: &str = r#"
apiVersion: boyle.dev/v1alpha1
kind: ModelDeployment
metadata: {name: deepseek-r1, namespace: models, labels: {team: chat}}
spec:
  model:
    source: hf://deepseek-ai/DeepSeek-R1
    revision: main
    precision: auto
    contextLength: 32768
  agents:
    min: 4
    max: 16
    accelerator: {resource: nvidia.com/gpu, count: 8}
    resources: {limits: {memory: 1Ti}}
    template: {spec: {nodeSelector: {gpu: h200}}}
  experts: {copies: 2}
  router: {min: 2, max: 10}
  objectives: {timeToFirstToken: 2s, timePerOutputToken: 50ms}
  cost: {acceleratorHour: "2.00", currency: USD, compareWith: openai/o1}
"#;

/// The five lines that are enough.
const MINIMAL: &str = "\
apiVersion: boyle.dev/v1alpha1
kind: ModelDeployment
metadata: {name: tiny-r1}
spec:
  model: {source: 'embedded://tiny-r1'}
";

fn request(text: &str) -> DeploymentRequest {
    let manifest = parse_yaml(text).expect("the manifest parses");
    manifest.to_request().expect("the manifest is right")
}

#[test]
fn every_field_arrives() {
    let request = request(FULL);
    assert_eq!(request.name.as_str(), "deepseek-r1");
    let (owner, name) = ("deepseek-ai".to_owned(), "DeepSeek-R1".to_owned());
    assert_eq!(request.source, ModelSource::HuggingFace { owner, name });
    assert_eq!((request.revision.as_str(), request.precision), ("main", Precision::Auto));
    assert_eq!(request.context_length.map(u32::from), Some(32_768));
    assert_eq!((request.agents.min, request.agents.max), (4, 16));
    assert_eq!(
        request.accelerator.map(|it| (it.resource, it.count)),
        Some(("nvidia.com/gpu".into(), 8))
    );
    assert_eq!(request.copies.get(), 2);
    assert_eq!((request.router.min, request.router.max), (2, 10));
    assert_eq!(request.objectives.time_to_first_token, Duration::from_secs(2));
    assert_eq!(request.objectives.time_per_output_token, Duration::from_millis(50));
    assert_eq!(request.cost.accelerator_hour, Some(Decimal { millionths: 2_000_000 }));
    assert_eq!(request.cost.compare_with.as_deref(), Some("openai/o1"));
}

#[test]
fn five_lines_are_enough() {
    let request = request(MINIMAL);
    assert_eq!(request.source, ModelSource::Embedded { name: "tiny-r1".to_owned() });
    assert_eq!((request.agents.min, request.agents.max, request.copies.get()), (1, 1, 1));
    assert_eq!((request.router.min, request.router.max), (1, 1));
    assert_eq!(request.context_length, None);
    assert_eq!(request.cost.accelerator_hour, None);
}

#[test]
fn a_sleeping_deployment_may_wake_one_agent() {
    let text = MINIMAL.to_owned() + "  agents: {min: 0}\n";
    let request = request(&text);
    assert_eq!((request.agents.min, request.agents.max), (0, 1));
}

#[test]
fn sources_read_as_they_are_written() {
    let sources = [
        "hf://deepseek-ai/DeepSeek-R1",
        "pvc://models/r1/fp8",
        "s3://bucket/r1",
        "oci://registry.local/models/r1:v1",
        "file:///models/r1",
        "embedded://tiny-r1",
    ];
    for text in sources {
        assert_eq!(ModelSource::parse(text).map(|source| source.to_string()), Ok(text.to_owned()));
    }
}

#[test]
fn quantities_are_exact() {
    assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1_500)));
    assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7_200)));
    for wrong in ["", "5", "ms", "-1s", "1.5s", "9999999999999s", "5 s", "5d"] {
        assert!(parse_duration(wrong).is_err(), "{wrong:?} was taken");
    }
    assert_eq!(Decimal::parse("2.5").map(|it| it.to_string()), Ok("2.500000".to_owned()));
    assert_eq!(Decimal::parse("0.000001").map(|it| it.millionths), Ok(1));
    for wrong in ["", ".", "2.", ".5", "-1", "1e3", "0.0000001", "1234567890123", "2,00"] {
        assert!(Decimal::parse(wrong).is_err(), "{wrong:?} was taken");
    }
}
