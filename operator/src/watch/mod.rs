//! One watch for each kind, whatever the number of deployments. What they show is parsed at once into a few words
//! for each object; the objects themselves are dropped.

pub mod cache;
pub mod deployment;
pub mod node;
pub mod object;
pub mod pod;
mod quantity;
mod stream;
mod wakes;

pub use stream::{Caches, Kind, ModelDeploymentFacts, Watcher};
pub use wakes::Wakes;
