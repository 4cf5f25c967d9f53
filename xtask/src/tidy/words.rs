//! The repository stands alone: it names no place, tool or conversation that its readers do not have.

use super::TextFile;

/// Spelled in pieces, so that this list does not find itself. Matched without regard to case.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of the machine it was written on"),
    (concat!("../sha", "red/"), "a folder outside the repository"),
    (concat!("crates", ".io"), "a package registry's host; cargo knows it"),
    (concat!("py", "pi.org"), "a package registry's host; pip knows it"),
    (concat!("registry.npm", "js"), "a package registry's host"),
    (concat!("proxy.golang", ".org"), "a package registry's host"),
    (concat!("help", "er"), "a word for code without a name; say what it does"),
    (concat!("this ses", "sion"), "talk about how it was written"),
    (concat!("the br", "ief"), "talk about how it was written"),
    (concat!("work", "place"), "talk about how it was written"),
    (concat!("as an a", "i "), "talk about how it was written"),
    (concat!("(issue ", "#"), "an issue number; say what the problem is"),
];

pub fn check(file: &TextFile) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let line = line.to_lowercase();
        for (word, why) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
            findings.push(format!("{}:{}: `{word}`: {why}", file.path, index + 1));
        }
    }
    findings
}
