//! Each rule finds what it forbids, and only that.

use super::{TextFile, arrows, documents, manifests, purity, shapes, source, words};
use crate::workspace::Metadata;
use std::collections::{BTreeMap, BTreeSet};

fn file(path: &str, text: &str) -> TextFile {
    TextFile { path: path.to_owned(), text: text.to_owned() }
}

/// A graph of packages whose ids are their names; the first `member_count` are ours.
fn graph(packages: &[(&str, &[&str])], member_count: usize) -> Metadata {
    let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
    let names = packages.iter().map(|(name, _)| (name.to_string(), name.to_string()));
    Metadata {
        target_directory: "target".into(),
        members: packages[..member_count].iter().map(|(name, _)| name.to_string()).collect(),
        names: names.collect::<BTreeMap<_, _>>(),
        dependencies: packages.iter().map(|(name, needs)| (name.to_string(), own(needs))).collect(),
    }
}

const LAYOUT: &[arrows::Row] = &[("model", &[]), ("engine", &["model"])];

#[test]
fn arrows_of_the_layout_pass() {
    let metadata = graph(&[("model", &["serde"]), ("engine", &["model"]), ("serde", &[])], 2);
    assert_eq!(arrows::check(&metadata, LAYOUT, &[]), Vec::<String>::new());
}

#[test]
fn arrows_against_the_layout_are_found() {
    let metadata = graph(&[("model", &["engine"]), ("engine", &[])], 2);
    let findings = arrows::check(&metadata, LAYOUT, &[]);
    assert_eq!(findings, ["model/Cargo.toml: model must not depend on engine"]);
}

#[test]
fn a_crate_without_a_row_is_found() {
    let findings = arrows::check(&graph(&[("newcomer", &[])], 1), LAYOUT, &[]);
    assert!(findings.len() == 1 && findings[0].contains("newcomer"), "{findings:?}");
}

#[test]
fn an_exception_permits_its_arrow_and_is_found_when_idle() {
    let exception = || [arrows::Exception { from: "model", to: "engine", reason: "a test" }];
    let used = graph(&[("model", &["engine"]), ("engine", &[])], 2);
    assert_eq!(arrows::check(&used, LAYOUT, &exception()), Vec::<String>::new());
    let idle = graph(&[("model", &[]), ("engine", &[])], 2);
    let findings = arrows::check(&idle, LAYOUT, &exception());
    assert!(findings.len() == 1 && findings[0].contains("not needed"), "{findings:?}");
}

#[test]
fn an_impure_package_is_found_at_any_depth() {
    let pure = graph(&[("model", &["a"]), ("router", &["tokio"]), ("a", &[]), ("tokio", &[])], 2);
    assert_eq!(purity::check_dependencies(&pure), Vec::<String>::new());
    let deep = graph(
        &[
            ("model", &["a"]),
            ("a", &["b"]),
            ("b", &["tokio", "a"]),
            ("tokio", &["mio"]),
            ("mio", &[]),
        ],
        1,
    );
    let findings = purity::check_dependencies(&deep);
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings[0].contains("mio") && findings[1].contains("tokio"), "{findings:?}");
}

#[test]
fn impure_names_are_found_in_pure_source_only() {
    let code = "fn f() {\n    let t = Instant::now();\n}\n";
    assert_eq!(purity::check_source(&file("engine/src/step.rs", code)).len(), 1);
    assert!(
        purity::check_source(&file("engine/src/step.rs", code))[0]
            .starts_with("engine/src/step.rs:2:")
    );
    for path in ["router/src/step.rs", "engine/tests/it.rs"] {
        assert_eq!(purity::check_source(&file(path, code)), Vec::<String>::new());
    }
    let told = "// not Instant::now\nconst X: &str = \"std::thread\";\n";
    assert_eq!(purity::check_source(&file("engine/src/step.rs", told)), Vec::<String>::new());
}

#[test]
fn long_files_and_functions_are_found() {
    let body = |lines: usize| format!("fn long() {{\n{}}}\n", "    x();\n".repeat(lines));
    let longest = shapes::FUNCTION_LINES_MAX;
    assert_eq!(shapes::check(&file("a/src/b.rs", &body(longest))), Vec::<String>::new());
    let findings = shapes::check(&file("a/src/b.rs", &body(longest + 1)));
    assert_eq!(findings, ["a/src/b.rs:1: long has 71 lines, at most 70"]);
    let lines = |count: usize| file("a/src/b.rs", &"use x;\n".repeat(count));
    assert_eq!(shapes::check(&lines(shapes::FILE_LINES_MAX)), Vec::<String>::new());
    assert_eq!(shapes::check(&lines(shapes::FILE_LINES_MAX + 1)).len(), 1);
}

#[test]
fn blanks_at_line_ends_are_found() {
    assert_eq!(shapes::check(&file("a.md", "fine\nnot \n")), ["a.md:2: trailing whitespace"]);
    assert_eq!(shapes::check(&file("a.md", "cut")), ["a.md: no newline at the end"]);
}

#[test]
fn switching_a_size_lint_off_is_found() {
    let text = "#[allow(clippy::too_many_lines)]\nfn f() {}\n";
    assert_eq!(shapes::check(&file("a/src/b.rs", text)).len(), 1);
    let told = "// never allow(clippy::too_many_lines)\n";
    assert_eq!(shapes::check(&file("a/src/b.rs", told)), Vec::<String>::new());
}

#[test]
fn places_outside_the_repository_are_found() {
    let text = format!(
        "see {}x/notes\nfine\nread {}notes\n",
        concat!("/wo", "rk/"),
        concat!("../sha", "red/")
    );
    let findings = words::check(&file("README.md", &text));
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(
        findings[0].starts_with("README.md:1:") && findings[1].starts_with("README.md:3:"),
        "{findings:?}"
    );
    let word = format!("A {} function\n", concat!("Help", "er"));
    assert_eq!(words::check(&file("a.rs", &word)).len(), 1);
}

const MANIFEST: &str = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
    rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\n[lints]\nworkspace = true\n\n\
    [dependencies]\nserde.workspace = true # why\n";

#[test]
fn manifests_must_inherit() {
    assert_eq!(manifests::check(&file("a/Cargo.toml", MANIFEST)), Vec::<String>::new());
    for line in
        ["[lints]\nworkspace = true\n", "version.workspace = true\n", "publish.workspace = true\n"]
    {
        let without = MANIFEST.replacen(line, "", 1);
        assert_eq!(manifests::check(&file("a/Cargo.toml", &without)).len(), 1, "without {line}");
    }
    let own = format!("{MANIFEST}rand = \"0.9\"\n");
    let findings = manifests::check(&file("a/Cargo.toml", &own));
    assert!(findings.len() == 1 && findings[0].contains("rand"), "{findings:?}");
}

#[test]
fn missing_documents_and_an_empty_changelog_are_found() {
    let named = |name: &str| file(name, "# x\n\n## [Unreleased]\n");
    let all = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/STYLE.md"].map(named);
    assert_eq!(documents::check(&all), Vec::<String>::new());
    assert_eq!(documents::check(&all[1..]), ["README.md is missing"]);
    let stale = [
        named("README.md"),
        named("ARCHITECTURE.md"),
        named("docs/STYLE.md"),
        file("CHANGELOG.md", "# x\n"),
    ];
    assert_eq!(documents::check(&stale), ["CHANGELOG.md: lacks a section `## [Unreleased]`"]);
}

fn check_masked(code: &str, expected: &str) {
    assert_eq!(source::without_comments_and_strings(code), expected);
}

#[test]
fn comments_and_literals_are_blanked() {
    check_masked("a // b\nc", "a     \nc");
    check_masked("a /* { /* } */ { */ b", "a                   b");
    check_masked(r#"f("{ \" }", x)"#, "f(        , x)");
    check_masked(
        "r#\"{\"# + r\"}\" + 'x' + '\\'' + b'{'",
        &format!(
            "{} + {} + {} + {} + b{}",
            " ".repeat(6),
            " ".repeat(4),
            " ".repeat(3),
            " ".repeat(4),
            " ".repeat(3)
        ),
    );
    check_masked("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)");
    check_masked("let r#type = for_r;", "let r#type = for_r;");
    check_masked("\"open", "     ");
}

#[test]
fn functions_are_measured_with_what_they_nest() {
    let code = "trait T {\n    fn declared(&self);\n}\n\nimpl X {\n    fn outer() {\n        fn inner() {\n            a();\n        }\n\n        b();\n    }\n}\ntype F = fn(u32) -> u32;\n";
    let found = source::functions(code);
    let shown: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.body_lines)).collect();
    assert_eq!(shown, [("outer", 6, 4), ("inner", 7, 1)]);
}

#[test]
fn arrays_in_a_signature_hide_no_function() {
    let code = "fn f(x: [u8; 4]) -> [u8; 2] {\n    a();\n    b();\n}\ntrait T {\n    fn g() -> [u8; 4];\n}\nfn h() {\n    c();\n}\n";
    let found = source::functions(code);
    let shown: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.body_lines)).collect();
    assert_eq!(shown, [("f", 1, 2), ("h", 8, 1)]);
}
