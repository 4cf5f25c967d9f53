//! Where things are: the repository's root, its files, its crates.

use crate::process;
use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables that `cargo run` sets for the program that it runs.
const CARGO_RUN_PREFIXES: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// The repository that this program was built from.
#[derive(Debug)]
pub struct Workspace {
    pub root: PathBuf,
}

impl Workspace {
    /// # Errors
    /// When this crate no longer lies one folder below the root.
    pub fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root =
            manifest.parent().ok_or_else(|| anyhow!("{} has no parent", manifest.display()))?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// A `cargo` command in the root; the same cargo that runs us.
    pub fn cargo(&self) -> Command {
        self.program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// Any program in the root.
    pub fn program(&self, name: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(name);
        command.current_dir(&self.root);
        // `cargo xtask` is a `cargo run`, which sets these for us. Some dependencies' build scripts ask to be run again
        // when they change: everything would be compiled anew after each plain `cargo build`.
        let ours = |name: &OsString| {
            let name = name.to_string_lossy();
            CARGO_RUN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command
    }

    /// Builds every program. Every package is named, as for tests, so that dependencies are compiled with one set of
    /// features.
    pub fn build_programs(&self) -> Command {
        let mut command = self.cargo();
        command.args(["build", "--release", "--locked", "--workspace", "--bins"]);
        command
    }

    /// Files of the repository, new ones included, ignored ones not; relative to the root, sorted.
    ///
    /// # Errors
    /// When this is no git repository.
    pub fn files(&self) -> Result<Vec<String>> {
        let listed = process::output(self.program("git").args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))
        .context("listing files; tidy needs a git checkout")?;
        let names: BTreeSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
        // A file deleted but not yet staged is still in the index.
        Ok(names.into_iter().filter(|n| self.root.join(n).is_file()).map(str::to_owned).collect())
    }

    /// What `cargo metadata` says.
    ///
    /// # Errors
    /// When cargo fails, or prints what we do not understand.
    pub fn metadata(&self) -> Result<Metadata> {
        let printed =
            process::output(self.cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
        let raw: RawMetadata =
            serde_json::from_str(&printed).context("reading cargo metadata's JSON")?;
        Ok(raw.into())
    }
}

/// The dependency graph, reduced to what the checks ask.
#[derive(Debug)]
pub struct Metadata {
    pub target_directory: PathBuf,
    /// Package ids of the workspace's crates.
    pub members: BTreeSet<String>,
    /// Package id → name.
    pub names: BTreeMap<String, String>,
    /// Package id → package ids it needs to be built and run; what only its tests need is left out.
    pub dependencies: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Deserialize)]
struct RawMetadata {
    target_directory: PathBuf,
    workspace_members: BTreeSet<String>,
    packages: Vec<RawPackage>,
    resolve: RawResolve,
}

#[derive(Deserialize)]
struct RawPackage {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct RawResolve {
    nodes: Vec<RawNode>,
}

#[derive(Deserialize)]
struct RawNode {
    id: String,
    deps: Vec<RawDependency>,
}

#[derive(Deserialize)]
struct RawDependency {
    pkg: String,
    dep_kinds: Vec<RawKind>,
}

#[derive(Deserialize)]
struct RawKind {
    /// Absent for a normal dependency; else "dev" or "build".
    kind: Option<String>,
}

impl From<RawMetadata> for Metadata {
    fn from(raw: RawMetadata) -> Self {
        let needed = |dependency: &RawDependency| {
            dependency.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev"))
        };
        let dependencies = raw.resolve.nodes.into_iter().map(|node| {
            let packages = node.deps.into_iter().filter(needed).map(|dependency| dependency.pkg);
            (node.id, packages.collect())
        });
        Self {
            target_directory: raw.target_directory,
            members: raw.workspace_members,
            names: raw.packages.into_iter().map(|package| (package.id, package.name)).collect(),
            dependencies: dependencies.collect(),
        }
    }
}
