//! Writes the files that are generated from the resource; with `--check`, says which are stale.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mode = if std::env::args().any(|it| it == "--check") { Mode::Check } else { Mode::Write };
    match run(mode) {
        Ok(stale) if stale.is_empty() => ExitCode::SUCCESS,
        Ok(stale) => {
            eprintln!("stale: {}; run `cargo xtask crdgen`", stale.join(", "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Check,
    Write,
}

fn run(mode: Mode) -> Result<Vec<&'static str>, Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut stale = Vec::new();
    let files =
        [(crds::DEFINITION_FILE, crds::definition()?), (crds::REFERENCE_FILE, crds::reference()?)];
    for (name, wanted) in files {
        let file = root.join(name);
        if std::fs::read_to_string(&file).is_ok_and(|it| it == wanted) {
            continue;
        }
        if mode == Mode::Check {
            stale.push(name);
        } else {
            file.parent().map(std::fs::create_dir_all).transpose()?;
            std::fs::write(&file, wanted)?;
            println!("wrote {name}");
        }
    }
    Ok(stale)
}
