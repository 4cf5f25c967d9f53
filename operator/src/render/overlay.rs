//! `spec.agents.resources` and `spec.agents.template`: JSON in, typed parts of a pod out.
//!
//! A field that Kubernetes does not know is refused here: the API server would drop it in silence.

use super::names::AGENT_CONTAINER;
use crds::Violation;
use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{LocalObjectReference, PodTemplateSpec, ResourceRequirements};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

const RESOURCES: &str = "spec.agents.resources";
const TEMPLATE: &str = "spec.agents.template";
/// The operator's own variables begin like this; an agent with another identity would break the plan.
const OWN_VARIABLES: &str = "BOYLE_";

/// What a person wants of the agents' pods beyond what Boyle decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodWishes {
    resources: ResourceRequirements,
    template: PodTemplateSpec,
    resources_as_written: Option<Value>,
    template_as_written: Option<Value>,
}

impl PodWishes {
    /// # Errors
    /// Every field that is unknown, has the wrong type, or belongs to Boyle.
    pub fn parse(
        resources: Option<&Map<String, Value>>,
        template: Option<&Map<String, Value>>,
    ) -> Result<Self, Vec<Violation>> {
        let mut found = Vec::new();
        let resources_as_written = resources.cloned().map(Value::Object);
        let template_as_written = template.cloned().map(Value::Object);
        let wishes = Self {
            resources: typed(RESOURCES, resources_as_written.as_ref(), &mut found),
            template: typed(TEMPLATE, template_as_written.as_ref(), &mut found),
            resources_as_written,
            template_as_written,
        };
        wishes.check_agent_container(&mut found);
        if found.is_empty() { Ok(wishes) } else { Err(found) }
    }

    pub fn resources(&self) -> &ResourceRequirements {
        &self.resources
    }

    pub(super) fn image_pull_secrets(&self) -> Option<Vec<LocalObjectReference>> {
        self.template.spec.as_ref()?.image_pull_secrets.clone()
    }

    pub(super) fn resources_as_written(&self) -> Option<Value> {
        self.resources_as_written.clone()
    }

    pub(super) fn template_as_written(&self) -> Option<Value> {
        self.template_as_written.clone()
    }

    /// Lays the overlay over a rendered template: lists with keys merge by key, the overlay wins, Boyle's own labels
    /// and annotations stay.
    pub(super) fn lay_over(&self, mut rendered: PodTemplateSpec) -> PodTemplateSpec {
        let own = rendered.metadata.clone().unwrap_or_default();
        rendered.merge_from(self.template.clone());
        let metadata = rendered.metadata.get_or_insert_default();
        metadata.labels.get_or_insert_default().extend(own.labels.unwrap_or_default());
        metadata.annotations.get_or_insert_default().extend(own.annotations.unwrap_or_default());
        rendered
    }

    fn check_agent_container(&self, found: &mut Vec<Violation>) {
        let containers = self.template.spec.iter().flat_map(|spec| &spec.containers);
        for container in containers {
            let field = format!("{TEMPLATE}.spec.containers");
            if container.name.is_empty() {
                let remedy = format!("write a name; {AGENT_CONTAINER} is the agent itself");
                found.push(violation(&field, "a container without a name", &remedy));
            }
            if container.name != AGENT_CONTAINER {
                continue;
            }
            if let Some(image) = &container.image {
                found.push(violation(&field, image, "write the agent's image in spec.image"));
            }
            if container.resources.is_some() {
                let remedy = format!("write the agent's resources in {RESOURCES}");
                found.push(violation(&field, "resources", &remedy));
            }
            let variables = container.env.iter().flatten();
            for variable in variables.filter(|it| it.name.starts_with(OWN_VARIABLES)) {
                let remedy = "leave it out; the operator sets the variables that begin with BOYLE_";
                found.push(violation(&format!("{field}.env"), &variable.name, remedy));
            }
        }
    }
}

fn violation(field: &str, value: &str, remedy: &str) -> Violation {
    Violation { field: field.to_owned(), value: value.to_owned(), remedy: remedy.to_owned() }
}

fn typed<T: DeserializeOwned + Serialize + Default>(
    field: &str,
    written: Option<&Value>,
    found: &mut Vec<Violation>,
) -> T {
    let Some(written) = written else { return T::default() };
    let typed: T = match serde_json::from_value(written.clone()) {
        Ok(typed) => typed,
        Err(error) => {
            let remedy = format!("write it as in a Pod: {error}");
            found.push(violation(field, &written.to_string(), &remedy));
            return T::default();
        }
    };
    let understood = serde_json::to_value(&typed).unwrap_or_default();
    lost(field, written, &understood, found);
    typed
}

/// Everything that was written and is not there after a round trip.
fn lost(field: &str, written: &Value, understood: &Value, found: &mut Vec<Violation>) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in written {
                let field = format!("{field}.{key}");
                match understood.get(key) {
                    Some(understood) => lost(&field, value, understood, found),
                    None if value.is_null() => {}
                    None => {
                        let remedy =
                            "Kubernetes knows no such field here; check its spelling and its place";
                        found.push(violation(&field, &value.to_string(), remedy));
                    }
                }
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            for (index, (value, understood)) in written.iter().zip(understood).enumerate() {
                lost(&format!("{field}[{index}]"), value, understood, found);
            }
        }
        // Scalars that were read are kept; Kubernetes may write them differently.
        _ => {}
    }
}
