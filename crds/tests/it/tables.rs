//! `tests/bad` and `tests/good`: manifests that both the API server and [`crds`] refuse, or both take.

use crds::{Manifest, parse_yaml};
use std::path::{Path, PathBuf};

/// One file of a table.
pub struct Case {
    pub name: String,
    pub file: PathBuf,
    pub text: String,
}

impl Case {
    /// What the API server must say: lines `# says: …` at the top; the first names the field.
    pub fn says(&self) -> Vec<&str> {
        self.text.lines().map_while(|line| line.strip_prefix("# says: ")).collect()
    }
}

pub fn cases(table: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(table);
    let entries = std::fs::read_dir(folder).expect("the table is in the repository");
    let mut cases: Vec<Case> = entries
        .map(|entry| {
            let file = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&file).expect("text");
            let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
            Case { name, file, text }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

fn refusal(text: &str) -> Result<Manifest, String> {
    let manifest = parse_yaml(text).map_err(|error| error.to_string())?;
    match manifest.to_request() {
        Ok(_) => Ok(manifest),
        Err(found) => Err(found.iter().map(|it| format!("{it}\n")).collect()),
    }
}

#[test]
fn bad_manifests_are_refused_without_a_cluster_too() {
    let cases = cases("bad");
    assert!(cases.len() >= 60, "only {} cases were found", cases.len());
    for case in &cases {
        let says = case.says();
        assert!(
            says.len() >= 2 || case.name.starts_with("unknown"),
            "{}: says too little",
            case.name
        );
        let Err(message) = refusal(&case.text) else { panic!("{} was taken", case.name) };
        // Without the path where reading the YAML already fails; the line is in the message then.
        let field = says[0].trim_end_matches('"').rsplit('.').next().unwrap_or_default();
        let field = field.split('[').next().unwrap_or_default();
        let value = says.get(1).copied().unwrap_or_default().trim_matches('"');
        let named = message.contains(field) || message.contains(value);
        assert!(named, "{}: {message} does not name {field}", case.name);
    }
}

#[test]
fn good_manifests_are_taken() {
    let cases = cases("good");
    assert!(cases.len() >= 10, "only {} cases were found", cases.len());
    for case in cases {
        if let Err(message) = refusal(&case.text) {
            panic!("{}: {message}", case.name);
        }
    }
}
