//! A ModelDeployment in YAML → what the process substrate takes from it. Fields that it cannot honour are refused.

use crds::{DeploymentRequest, ModelSource, ParseError, Precision, Violation, parse_yaml};
use planner::spec::AgentRange;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// What `boyle` runs when no file is given.
const DEFAULT: &str = "\
apiVersion: boyle.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: tiny-r1
spec:
  model:
    source: embedded://tiny-r1
  agents:
    min: 3
  experts:
    copies: 2
";

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{place} is no ModelDeployment")]
    Parse {
        place: String,
        #[source]
        source: ParseError,
    },
    #[error("{place}: {}", violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Violations { place: String, violations: Vec<Violation> },
    #[error("{place}: {field}: {value} is not yet on this substrate; {remedy}")]
    Unsupported { place: String, field: &'static str, value: String, remedy: &'static str },
}

/// The parts of a ModelDeployment that this substrate uses, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub name: String,
    pub source: ModelSource,
    pub agents: AgentRange,
    pub copies: NonZeroU32,
    /// `None`: the model's own limit.
    pub context_length: Option<NonZeroU32>,
}

impl Manifest {
    /// Reads a file, or takes the default.
    ///
    /// # Errors
    /// [`ManifestError`] naming the field, the value and what to write instead.
    pub fn read(file: Option<&Path>) -> Result<Self, ManifestError> {
        let Some(path) = file else { return Self::parse(DEFAULT, "the default manifest") };
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(text: &str, place: &str) -> Result<Self, ManifestError> {
        let place = || place.to_owned();
        let deployment =
            parse_yaml(text).map_err(|source| ManifestError::Parse { place: place(), source })?;
        let request = deployment
            .to_request()
            .map_err(|violations| ManifestError::Violations { place: place(), violations })?;
        if let Some((field, value, remedy)) = unsupported(&request) {
            return Err(ManifestError::Unsupported { place: place(), field, value, remedy });
        }
        // Nothing wakes agents on this substrate, so at least one is up.
        let agents = request.agents.min.max(1);
        Ok(Self {
            name: request.name.to_string(),
            source: request.source,
            agents: AgentRange { min: agents, max: agents },
            copies: request.copies,
            context_length: request.context_length,
        })
    }
}

/// Field, value and remedy of what would otherwise be ignored in silence. Objectives and prices are kept for what
/// reads them elsewhere; they change nothing about what is served.
fn unsupported(request: &DeploymentRequest) -> Option<(&'static str, String, &'static str)> {
    if let Some(accelerator) = &request.accelerator {
        let value = format!("{} × {}", accelerator.count, accelerator.resource);
        let remedy = "leave it out to compute on the processor";
        return Some(("spec.agents.accelerator", value, remedy));
    }
    let remedy = "write auto";
    match request.precision {
        Precision::Auto => None,
        precision @ (Precision::Fp8 | Precision::Bf16 | Precision::Int8 | Precision::Int4) => {
            let value = format!("{precision:?}").to_lowercase();
            Some(("spec.model.precision", value, remedy))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(spec: &str) -> String {
        let text = format!(
            "apiVersion: boyle.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: x}}\nspec: {spec}\n"
        );
        match Manifest::parse(&text, "x.yaml") {
            Ok(manifest) => format!("accepted {manifest:?}"),
            Err(error) => crate::describe(&error),
        }
    }

    #[test]
    fn default_is_the_embedded_model() {
        let manifest = Manifest::read(None).unwrap();
        assert_eq!(manifest.name, "tiny-r1");
        assert_eq!(manifest.source, ModelSource::Embedded { name: "tiny-r1".to_owned() });
        assert_eq!(manifest.agents, AgentRange { min: 3, max: 3 });
        assert_eq!(manifest.copies.get(), 2);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let accelerator = "{model: {source: 'file:///m'}, agents: {accelerator: \
                           {resource: nvidia.com/gpu, count: 8}}}";
        assert_eq!(
            refused(accelerator),
            "x.yaml: spec.agents.accelerator: 8 × nvidia.com/gpu is not yet on this substrate; \
             leave it out to compute on the processor"
        );
        assert_eq!(
            refused("{model: {source: 'file:///m', precision: int4}}"),
            "x.yaml: spec.model.precision: int4 is not yet on this substrate; write auto"
        );
    }

    #[test]
    fn errors_name_file_and_field() {
        let bad = refused("{model: {source: 'file:///m'}, experts: {copies: 9}}");
        assert!(bad.contains("x.yaml") && bad.contains("spec.experts.copies"), "{bad}");
        let unknown = refused("{modle: {source: 'file:///m'}}");
        assert!(unknown.contains("x.yaml") && unknown.contains("modle"), "{unknown}");
    }
}
