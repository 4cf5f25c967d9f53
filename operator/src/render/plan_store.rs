//! The ConfigMap that keeps a group's last plan, for an operator that starts again.

use super::Target;
use super::hashes::Group;
use super::names::{Component, GROUP_LABEL};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use std::collections::BTreeMap;

/// Key in the ConfigMap's binary data: gzipped JSON, because a plan of a large model is a megabyte of text.
pub const PLAN_KEY: &str = "plan.json.gz";

/// The ConfigMap with this plan.
pub fn plan_config_map(target: &Target, group: &Group, plan: Vec<u8>) -> ConfigMap {
    let mut metadata = target.metadata(target.names().plan(group), Component::Agent);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(GROUP_LABEL.to_owned(), group.to_string());
    ConfigMap {
        metadata,
        binary_data: Some(BTreeMap::from([(PLAN_KEY.to_owned(), ByteString(plan))])),
        ..ConfigMap::default()
    }
}
