//! Which crate may depend on which: ARCHITECTURE.md's table, as data.

use crate::workspace::Metadata;
use std::collections::BTreeSet;

/// A crate and the crates of this workspace it may depend on.
pub type Row = (&'static str, &'static [&'static str]);

pub const LAYOUT: &[Row] = &[
    ("planner", &[]),
    ("model", &[]),
    ("engine", &["model"]),
    ("proto", &[]),
    ("crds", &["planner"]),
    ("substrate", &["planner", "proto"]),
    ("operator", &["substrate", "crds", "planner", "proto"]),
    ("node-agent", &["engine", "model", "proto"]),
    ("router", &["proto"]),
    ("cli", &["substrate", "crds", "planner", "router", "node-agent"]),
    ("cluster", &[]),
    ("e2e", &["crds", "cluster"]),
    ("xtask", &["cluster"]),
];

/// An arrow that the layout does not have.
#[derive(Debug)]
pub struct Exception {
    pub from: &'static str,
    pub to: &'static str,
    /// Why there is no other way; printed nowhere, read in reviews.
    #[expect(dead_code, reason = "an exception without a reason must not compile")]
    pub reason: &'static str,
}

pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        from: "cli",
        to: "model",
        reason: "`boyle oracle` runs a checkpoint without an agent, and `boyle up` reads its facts for the planner",
    },
    Exception {
        from: "cli",
        to: "engine",
        reason: "`boyle bench` measures the engine without an agent around it",
    },
];

/// Compares the workspace's arrows with the table.
pub fn check(metadata: &Metadata, layout: &[Row], exceptions: &[Exception]) -> Vec<String> {
    let arrows = arrows(metadata);
    let mut findings = Vec::new();
    for name in metadata.members.iter().filter_map(|id| metadata.names.get(id)) {
        if !layout.iter().any(|(known, _)| known == name) {
            findings.push(format!(
                "crate {name} is not in the layout (xtask/src/tidy/arrows.rs); add its row"
            ));
        }
    }
    for (from, to) in &arrows {
        let listed =
            layout.iter().any(|(name, allowed)| name == from && allowed.contains(&to.as_str()));
        let excepted =
            exceptions.iter().any(|exception| exception.from == from && exception.to == to);
        if !listed && !excepted {
            findings.push(format!("{from}/Cargo.toml: {from} must not depend on {to}"));
        }
    }
    for exception in exceptions {
        if !arrows.contains(&(exception.from.to_owned(), exception.to.to_owned())) {
            let Exception { from, to, .. } = exception;
            findings.push(format!(
                "xtask/src/tidy/arrows.rs: the exception {from} → {to} is not needed; remove it"
            ));
        }
    }
    findings
}

/// Every (crate, crate) pair of the workspace of which the first needs the second outside its tests.
fn arrows(metadata: &Metadata) -> BTreeSet<(String, String)> {
    let name = |id: &String| metadata.names.get(id).cloned().unwrap_or_default();
    let edges = metadata.members.iter().flat_map(|from| {
        let needed = metadata.dependencies.get(from).into_iter().flatten();
        needed.filter(|to| metadata.members.contains(*to)).map(move |to| (name(from), name(to)))
    });
    edges.collect()
}
