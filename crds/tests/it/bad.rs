//! Each file in `tests/manifests` is a wrong manifest and, after `---`, what a person reads.
//! `UPDATE_EXPECT=1 cargo test -p crds` rewrites the messages.

use crds::parse_yaml;
use std::fmt::Write as _;
use std::path::Path;

#[test]
fn wrong_manifests_say_what_to_write() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong_manifests.txt");
    let text = std::fs::read_to_string(&file).expect("the table is in the repository");
    let mut rewritten = String::new();
    let mut cases = 0;
    for case in text.split("=== ").skip(1) {
        let (title, rest) = case.split_once('\n').expect("a title line");
        let (changes, _) = rest.split_once("---\n").unwrap_or((rest, ""));
        let message = message(&manifest(changes));
        write!(rewritten, "=== {title}\n{changes}---\n{message}").expect("text");
        cases += 1;
    }
    assert!(cases >= 30, "only {cases} cases were found");
    let head = text.split("=== ").next().unwrap_or_default();
    let rewritten = format!("{head}{rewritten}");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, rewritten).expect("a writable table");
    } else {
        assert_eq!(rewritten, text, "UPDATE_EXPECT=1 rewrites the table");
    }
}

/// A case is a whole manifest, or `OLD -> NEW` changes to a right one.
fn manifest(changes: &str) -> String {
    if !changes.contains(" -> ") {
        return changes.to_owned();
    }
    let mut text = crate::good::FULL.to_owned();
    for change in changes.lines() {
        let (old, new) = change.split_once(" -> ").expect("a change");
        assert!(text.contains(old), "{old:?} is not in the manifest");
        text = text.replacen(old, new, 1);
    }
    text
}

fn message(text: &str) -> String {
    let violations = match parse_yaml(text) {
        Err(error) => return format!("{error}\n"),
        Ok(deployment) => match deployment.to_request() {
            Err(violations) => violations,
            Ok(request) => unreachable!("a wrong manifest was taken: {request:?}"),
        },
    };
    violations.iter().map(|violation| format!("{violation}\n")).collect()
}
