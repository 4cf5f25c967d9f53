//! Documents that must be there, and say something.

use super::TextFile;

const REQUIRED: &[&str] = &["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/STYLE.md"];

pub fn check(files: &[TextFile]) -> Vec<String> {
    let mut findings = Vec::new();
    for name in REQUIRED {
        if !files.iter().any(|file| file.path == *name) {
            findings.push(format!("{name} is missing"));
        }
    }
    if let Some(changelog) = files.iter().find(|file| file.path == "CHANGELOG.md") {
        findings.extend(unreleased(&changelog.text));
    }
    findings
}

/// The changelog has an `Unreleased` section for the next change to go into.
fn unreleased(changelog: &str) -> Option<String> {
    let present = changelog.lines().any(|line| line.trim_end() == "## [Unreleased]");
    (!present).then(|| "CHANGELOG.md: lacks a section `## [Unreleased]`".to_owned())
}
