//! The pure crates know no clock, socket or thread: neither through a dependency nor through `std`.

use super::TextFile;
use super::source;
use crate::workspace::Metadata;
use std::collections::BTreeSet;

const PURE: &[&str] = &["planner", "model", "engine"];

/// Runtimes, sockets and what stands on them.
const IMPURE_PACKAGES: &[&str] = &[
    "async-std",
    "axum",
    "h2",
    "hyper",
    "kube",
    "mio",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "tonic",
];

/// Time, threads, sockets and chance; pure code takes them as arguments.
const IMPURE_NAMES: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "rand::",
    "std::net",
    "std::process",
    "std::thread",
    "thread::spawn",
    "thread_local!",
];

/// Looks through the whole dependency graph below each pure crate.
pub fn check_dependencies(metadata: &Metadata) -> Vec<String> {
    let mut findings = Vec::new();
    let pure = metadata.members.iter().filter_map(|id| {
        let name = metadata.names.get(id)?;
        PURE.contains(&name.as_str()).then_some((id, name))
    });
    for (id, name) in pure {
        let mut found = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(package) = open.pop() {
            let needed = metadata.dependencies.get(package).into_iter().flatten();
            open.extend(needed.filter(|dependency| found.insert(dependency)));
        }
        let names = found.into_iter().filter_map(|id| metadata.names.get(id));
        for package in names.filter(|package| IMPURE_PACKAGES.contains(&package.as_str())) {
            findings.push(format!(
                "{name}/Cargo.toml: {name} is pure and must not pull in {package} \
                 (see `cargo tree --package {name} --invert {package}`)"
            ));
        }
    }
    findings
}

/// Looks for impure names in a pure crate's source; its tests may do as they like.
pub fn check_source(file: &TextFile) -> Vec<String> {
    let pure = PURE.iter().any(|name| file.path.starts_with(&format!("{name}/src/")));
    if !pure || !file.is_rust() {
        return Vec::new();
    }
    let code = source::without_comments_and_strings(&file.text);
    let mut findings = Vec::new();
    for (index, line) in code.lines().enumerate() {
        for name in IMPURE_NAMES.iter().filter(|name| line.contains(*name)) {
            let place = format!("{}:{}", file.path, index + 1);
            findings.push(format!("{place}: `{name}` in a pure crate; take it as an argument"));
        }
    }
    findings
}
