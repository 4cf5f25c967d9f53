//! `spec.model`.

use super::text;
use crate::source::ModelSource;
use crate::spec::{CONTEXT_LENGTH_MAX, CONTEXT_LENGTH_MIN, Model};
use crate::violation::Violation;
use std::num::NonZeroU32;

/// What hubs call the newest commit.
const MAIN: &str = "main";

pub(crate) fn source(model: &Model, found: &mut Vec<Violation>) -> Option<ModelSource> {
    let parsed = ModelSource::parse(&model.source);
    parsed
        .map_err(|error| found.push(Violation::new("spec.model.source", &model.source, error)))
        .ok()
}

/// Sources that have branches, tokens and addresses of their own.
fn is_hub(source: Option<&ModelSource>) -> bool {
    match source {
        Some(ModelSource::HuggingFace { .. }) | None => true,
        Some(
            ModelSource::PersistentVolumeClaim { .. }
            | ModelSource::S3 { .. }
            | ModelSource::Oci { .. }
            | ModelSource::File { .. }
            | ModelSource::Embedded { .. },
        ) => false,
    }
}

fn is_store(source: Option<&ModelSource>) -> bool {
    is_hub(source) || matches!(source, Some(ModelSource::S3 { .. }))
}

pub(crate) fn revision(
    model: &Model,
    source: Option<&ModelSource>,
    found: &mut Vec<Violation>,
) -> String {
    let field = "spec.model.revision";
    let hub = is_hub(source);
    let Some(revision) = &model.revision else {
        return if hub { MAIN.to_owned() } else { String::new() };
    };
    if !text::is_revision(revision) {
        let remedy = "write a branch, tag or commit, main for example";
        found.push(Violation::new(field, revision, remedy));
    } else if !hub {
        let remedy =
            "leave it out, or write a source that begins with hf://; no other has revisions";
        found.push(Violation::new(field, revision, remedy));
    }
    revision.clone()
}

pub(crate) fn context_length(model: &Model, found: &mut Vec<Violation>) -> Option<NonZeroU32> {
    let asked = model.context_length?;
    if !(CONTEXT_LENGTH_MIN..=CONTEXT_LENGTH_MAX).contains(&asked) {
        let remedy = format!(
            "write at least {CONTEXT_LENGTH_MIN} and at most {CONTEXT_LENGTH_MAX}, or leave it out for the model's own limit"
        );
        found.push(Violation::new("spec.model.contextLength", asked, remedy));
    }
    NonZeroU32::new(asked)
}

/// The Secret and the endpoint.
pub(crate) fn access(model: &Model, source: Option<&ModelSource>, found: &mut Vec<Violation>) {
    let store = is_store(source);
    if let Some(name) = &model.secret_name {
        let field = "spec.model.secretName";
        if !text::is_subdomain(name) {
            let remedy = "write the name of a Secret in this namespace, hub-token for example";
            found.push(Violation::new(field, name, remedy));
        } else if !store {
            let remedy = "leave it out; only hf:// and s3:// sources take credentials";
            found.push(Violation::new(field, name, remedy));
        }
    }
    if let Some(endpoint) = &model.endpoint {
        let field = "spec.model.endpoint";
        if !text::is_url(endpoint) {
            let remedy = "write a URL, https://hub.example.com for example";
            found.push(Violation::new(field, endpoint, remedy));
        } else if !store {
            let remedy = "leave it out; only hf:// and s3:// sources have an endpoint";
            found.push(Violation::new(field, endpoint, remedy));
        }
    }
}
