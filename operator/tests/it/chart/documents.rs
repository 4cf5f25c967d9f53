//! docs/operate.md explains every word that a status can have; docs/install.md names values that there are.

use super::{chart, parse, read};
use std::collections::BTreeSet;

/// The variants of an enum, read from its source, so that no list of them can be forgotten.
fn variants(path: &str, name: &str) -> BTreeSet<String> {
    let source = read(path);
    let (_, rest) = source.split_once(&format!("pub enum {name} {{")).unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let lines = body.lines().map(str::trim);
    let words = lines.filter(|line| line.starts_with(|it: char| it.is_ascii_uppercase()));
    words.map(|word| word.trim_end_matches(',').to_owned()).collect()
}

fn headings(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("### "));
    lines.map(str::to_owned).collect()
}

#[test]
fn every_condition_and_reason_has_its_heading_and_no_other_has_one() {
    let conditions = variants("crds/src/condition.rs", "ConditionType");
    let reasons = variants("crds/src/condition.rs", "ConditionReason");
    assert!(conditions.len() >= 5 && reasons.len() >= 20, "{conditions:?} {reasons:?}");
    let words: BTreeSet<String> = conditions.union(&reasons).cloned().collect();
    let written = headings(&read("docs/operate.md"));
    let missing: Vec<_> = words.difference(&written).collect();
    assert!(missing.is_empty(), "docs/operate.md lacks {missing:?}");
    let alerts = |heading: &&String| heading.starts_with("Boyle");
    let unknown: Vec<_> = written.difference(&words).filter(|heading| !alerts(heading)).collect();
    assert!(unknown.is_empty(), "docs/operate.md explains what there is not: {unknown:?}");
}

#[test]
fn every_phase_is_explained() {
    let text = read("docs/operate.md");
    for phase in variants("crds/src/status.rs", "Phase") {
        // Another version's word.
        if phase != "Unknown" {
            assert!(text.contains(&format!("| `{phase}` |")), "{phase}");
        }
    }
}

#[test]
fn values_that_the_documents_set_exist() {
    let values = parse(&std::fs::read_to_string(chart().join("values.yaml")).unwrap()).remove(0);
    let mut count = 0;
    for document in ["docs/install.md", "docs/operate.md", "README.md"] {
        let text = read(document);
        for setting in text.split("--set ").skip(1) {
            let name = setting.split('=').next().unwrap();
            let pointer = format!("/{}", name.replace('.', "/"));
            // Labels have the names that people give them.
            let free = pointer.starts_with("/monitoring/labels/");
            assert!(free || values.pointer(&pointer).is_some(), "{document}: {name}");
            count += 1;
        }
    }
    assert!(count > 2, "{count}");
}
