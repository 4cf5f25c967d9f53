//! Every crate takes its lints, version and licence from the workspace, and every dependency's version too.

use super::TextFile;

/// Keys that `[package]` inherits, so that they are written once.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

pub fn check(file: &TextFile) -> Vec<String> {
    if !file.path.ends_with("/Cargo.toml") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let package = section(&file.text, "package");
    for key in INHERITED {
        if !package.contains(&format!("{key}.workspace=true")) {
            findings.push(format!("{}: [package] lacks `{key}.workspace = true`", file.path));
        }
    }
    if !section(&file.text, "lints").contains(&"workspace=true".to_owned()) {
        findings.push(format!("{}: lacks `[lints]` with `workspace = true`", file.path));
    }
    for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for line in
            section(&file.text, table).iter().filter(|line| !line.contains("workspace=true"))
        {
            let name = line.split(['=', '.']).next().unwrap_or_default();
            findings.push(format!(
                "{}: {name} has a version of its own; write `{name}.workspace = true`",
                file.path
            ));
        }
    }
    findings
}

/// The lines of one table, without blanks and comments.
fn section(manifest: &str, name: &str) -> Vec<String> {
    let header = format!("[{name}]");
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != header).skip(1);
    lines
        .take_while(|line| !line.starts_with('['))
        .map(|line| line.split('#').next().unwrap_or_default().replace(' ', ""))
        .filter(|line| !line.is_empty())
        .collect()
}
