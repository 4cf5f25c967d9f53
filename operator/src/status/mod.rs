//! What a deployment is: reconcilers' statuses, pods' troubles and failed verbs → the resource's status and Events.

pub mod compose;
pub mod conditions;
pub mod meaning;
pub mod publisher;
mod remedy;
