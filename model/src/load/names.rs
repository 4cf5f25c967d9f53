//! Which tensors a part of a model is made of, without looking at any file.

use super::LoadError;
use super::build::{KeyValueUp, MatrixPart, WeightSink, dense_model, routed_expert};
use super::sinks::Nothing;
use crate::backend::MatrixSize;
use crate::checkpoint::SCALE_SUFFIX;
use crate::config::{ModelConfig, StoredFormat};
use crate::executor::ExpertAddress;
use std::collections::BTreeSet;

/// Part of a model that is loaded as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelPart {
    /// Everything but the routed experts.
    Dense,
    /// One routed expert.
    Expert(ExpertAddress),
}

/// Names of the part's tensors in the checkpoint, ascending, scales included.
///
/// # Errors
/// [`LoadError::NoSuchExpert`].
pub fn tensor_names(config: &ModelConfig, part: ModelPart) -> Result<BTreeSet<String>, LoadError> {
    let mut sink = Names { names: BTreeSet::new() };
    match part {
        ModelPart::Dense => {
            dense_model(config, &mut sink)?;
        }
        ModelPart::Expert(address) => {
            routed_expert(config, &mut sink, address)?;
        }
    }
    Ok(sink.names)
}

/// Writes down what it is asked for.
struct Names {
    names: BTreeSet<String>,
}

impl Names {
    fn add(&mut self, name: &str, format: StoredFormat) {
        self.names.insert(name.to_owned());
        match format {
            StoredFormat::Plain => {}
            StoredFormat::Fp8Blocks { .. } => {
                self.names.insert(format!("{name}{SCALE_SUFFIX}"));
            }
        }
    }
}

impl WeightSink for Names {
    type Weights = Nothing;

    fn matrix(&mut self, part: &MatrixPart) -> Result<(), LoadError> {
        self.add(&part.name, part.format);
        Ok(())
    }

    fn vector(&mut self, name: &str, _: usize) -> Result<(), LoadError> {
        self.add(name, StoredFormat::Plain);
        Ok(())
    }

    fn table(&mut self, name: &str, _: MatrixSize) -> Result<(), LoadError> {
        self.add(name, StoredFormat::Plain);
        Ok(())
    }

    fn column_halves(&mut self, part: &MatrixPart) -> Result<((), ()), LoadError> {
        self.add(&part.name, part.format);
        Ok(((), ()))
    }

    fn key_value_up(&mut self, part: &KeyValueUp) -> Result<((), ()), LoadError> {
        self.add(&part.name, part.format);
        Ok(((), ()))
    }
}
