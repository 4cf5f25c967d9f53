//! Reading checkpoints: exact values, and what is refused.

mod damaged;
pub(crate) mod file;
mod values;
