//! Small shapes: files, functions, lines; and no way round the compiler's own limits.

use super::{TextFile, source};

/// A file that needs more is two files.
pub const FILE_LINES_MAX: usize = 500;

/// A function that needs more is two functions; clippy counts the same (clippy.toml).
pub const FUNCTION_LINES_MAX: usize = 70;

/// Lints whose limits are the rule itself, so that allowing them would be an exception without a list.
const NEVER_ALLOWED: &[&str] =
    &["clippy::too_many_lines", "clippy::too_many_arguments", "clippy::fn_params_excessive_bools"];

pub fn check(file: &TextFile) -> Vec<String> {
    let mut findings = blanks(file);
    if file.is_rust() {
        findings.extend(sizes(file));
        findings.extend(allowances(file));
    }
    findings
}

fn blanks(file: &TextFile) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        if line.ends_with([' ', '\t']) {
            findings.push(format!("{}:{}: trailing whitespace", file.path, index + 1));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.push(format!("{}: no newline at the end", file.path));
    }
    findings
}

fn sizes(file: &TextFile) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", file.path));
    }
    let code = source::without_comments_and_strings(&file.text);
    for function in source::functions(&code) {
        if function.body_lines > FUNCTION_LINES_MAX {
            let source::Function { name, line, body_lines } = function;
            let place = format!("{}:{line}", file.path);
            findings.push(format!(
                "{place}: {name} has {body_lines} lines, at most {FUNCTION_LINES_MAX}"
            ));
        }
    }
    findings
}

fn allowances(file: &TextFile) -> Vec<String> {
    let code = source::without_comments_and_strings(&file.text);
    let mut findings = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let switched_off = line.contains("allow(") || line.contains("expect(");
        for lint in NEVER_ALLOWED.iter().filter(|lint| switched_off && line.contains(*lint)) {
            findings.push(format!("{}:{}: {lint} must not be switched off", file.path, index + 1));
        }
    }
    findings
}
