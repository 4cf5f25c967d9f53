//! `cargo xtask image`: Boyle's container images, made without container software and the same every time.
//!
//! The Dockerfile makes equivalent ones where Docker is at hand; a test here compares the two.

mod base;
mod broken;

use crate::process;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use base::Base;
use clap::{Args, ValueEnum};
use cluster::image::{Image, Layer, PROGRAM};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// An image that grew beyond this carries something that it should not.
const BYTES_MAX: u64 = 80 * 1_000_000;

/// The registry that exists nowhere: images come from here or not at all.
const REGISTRY: &str = "boyle.local";

/// Sections that tell where and not what: the build's id is a hash of paths too.
const STRIP: [&str; 2] = ["--strip-all", "--remove-section=.note.gnu.build-id"];

#[derive(Debug, Args)]
pub struct Options {
    /// Which image.
    #[arg(value_enum, default_value_t = Which::All)]
    which: Which,
    /// Where the tar files go; target/images by default.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The images' tag; Boyle's version by default.
    #[arg(long)]
    tag: Option<String>,
    /// Put a program in place of Boyle's that ends at once with exit code 1, to try out what a bad release does.
    #[arg(long)]
    broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// `boyle`: agents and routers.
    Serving,
    /// `boyle-operator`.
    Operator,
    All,
}

/// What an image is made of.
#[derive(Debug)]
struct Recipe {
    /// Of the image, below the registry.
    name: &'static str,
    /// Of the program in cargo's target folder.
    binary: &'static str,
    /// Where it is in the image; also the entrypoint.
    program: &'static str,
    /// The Dockerfile's stage.
    #[cfg_attr(not(test), expect(dead_code, reason = "compared with the Dockerfile"))]
    stage: &'static str,
}

const SERVING: Recipe =
    Recipe { name: "boyle", binary: "boyle", program: "/usr/bin/boyle", stage: "serving" };

const OPERATOR: Recipe = Recipe {
    name: "boyle-operator",
    binary: "boyle-operator",
    program: "/usr/bin/boyle-operator",
    stage: "operator",
};

/// An image on disk.
#[derive(Debug)]
pub struct Made {
    pub reference: String,
    pub tar: PathBuf,
    pub digest: String,
}

/// Makes the images and prints where they are.
///
/// # Errors
/// When a build fails or the machine is no Debian.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    for Made { reference, tar, digest } in make(workspace, options)? {
        println!("{reference}\n  {}\n  {digest}", tar.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What a cluster gets before Boyle is installed.
///
/// # Errors
/// As [`run`].
pub fn make_all(workspace: &Workspace) -> Result<Vec<Made>> {
    make(workspace, &Options { which: Which::All, output: None, tag: None, broken: false })
}

/// What a tagged image holds.
#[derive(Clone, Copy, Debug)]
pub enum Variant {
    Whole,
    /// See `--broken`.
    Broken,
}

/// All images under several tags.
///
/// # Errors
/// As [`run`].
pub fn make_variants(workspace: &Workspace, variants: &[(&str, Variant)]) -> Result<Vec<Made>> {
    let mut made = Vec::new();
    for &(tag, variant) in variants {
        let broken = matches!(variant, Variant::Broken);
        let tag = Some(tag.to_owned());
        made.extend(make(workspace, &Options { which: Which::All, output: None, tag, broken })?);
    }
    Ok(made)
}

fn make(workspace: &Workspace, options: &Options) -> Result<Vec<Made>> {
    let recipes: &[Recipe] = match options.which {
        Which::Serving => &[SERVING],
        Which::Operator => &[OPERATOR],
        Which::All => &[SERVING, OPERATOR],
    };
    let target = workspace.metadata()?.target_directory;
    if !options.broken {
        process::passed(&mut workspace.build_programs())?;
    }
    let output = options.output.clone().unwrap_or_else(|| target.join("images"));
    fs::create_dir_all(&output).with_context(|| format!("creating {}", output.display()))?;
    let tag = options.tag.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
    let base = base::make(&cluster::tools::cache()?.join("packages"))?;
    let made = recipes.iter().map(|recipe| {
        let program = if options.broken {
            broken::program()?
        } else {
            stripped(&target.join("release").join(recipe.binary), &workspace.root)?
        };
        let tar = output.join(format!("{}-{tag}.tar", recipe.name));
        pack(recipe, tag, &base, program, &tar)
    });
    made.collect()
}

/// A program without symbols and debug information.
fn stripped(binary: &Path, root: &Path) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let small = folder.path().join("stripped");
    process::passed(Command::new("strip").args(STRIP).arg("-o").arg(&small).arg(binary))?;
    let content = fs::read(&small).with_context(|| format!("reading {}", small.display()))?;
    let place = root.as_os_str().as_encoded_bytes();
    ensure!(
        !content.windows(place.len()).any(|window| window == place),
        "{} holds the path {}, so another clone would make another image",
        binary.display(),
        root.display()
    );
    Ok(content)
}

fn pack(recipe: &Recipe, tag: &str, base: &Base, program: Vec<u8>, tar: &Path) -> Result<Made> {
    let reference = format!("{REGISTRY}/{}:{tag}", recipe.name);
    let place = recipe.program.trim_start_matches('/');
    let mut labels = vec![
        ("org.opencontainers.image.title".to_owned(), recipe.name.to_owned()),
        ("org.opencontainers.image.licenses".to_owned(), env!("CARGO_PKG_LICENSE").to_owned()),
        ("org.opencontainers.image.version".to_owned(), tag.to_owned()),
    ];
    let packages = base.versions.iter();
    labels.extend(
        packages.map(|(name, version)| (format!("boyle.dev/package.{name}"), version.clone())),
    );
    let image = Image {
        reference: reference.clone(),
        layers: vec![base.layer.clone(), Layer::default().content(place, program, PROGRAM)],
        entrypoint: vec![recipe.program.to_owned()],
        environment: vec!["PATH=/usr/bin".to_owned()],
        labels,
    };
    let digest = image.write(tar)?;
    let bytes = fs::metadata(tar).with_context(|| format!("reading {}", tar.display()))?.len();
    ensure!(bytes < BYTES_MAX, "{} has {bytes} bytes, at most {BYTES_MAX}", tar.display());
    Ok(Made { reference, tar: tar.to_path_buf(), digest })
}

#[cfg(test)]
mod tests {
    use super::{OPERATOR, Recipe, SERVING};
    use crate::workspace::Workspace;

    /// The lines of a stage of the Dockerfile.
    fn stage(name: &str) -> Vec<String> {
        let path = Workspace::find().unwrap().root.join("Dockerfile");
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| line.trim().to_owned());
        let begin = format!("AS {name}");
        let stage = lines.skip_while(|line| !(line.starts_with("FROM") && line.ends_with(&begin)));
        stage
            .enumerate()
            .take_while(|(at, line)| *at == 0 || !line.starts_with("FROM"))
            .map(|(_, line)| line)
            .collect()
    }

    #[test]
    fn the_dockerfile_makes_the_same() {
        for Recipe { binary, program, stage: name, .. } in [SERVING, OPERATOR] {
            let lines = stage(name);
            for expected in [
                format!("COPY --from=build /stripped/{binary} {program}"),
                format!("USER {}", cluster::image::USER),
                format!("ENTRYPOINT [\"{program}\"]"),
            ] {
                assert!(lines.contains(&expected), "stage {name} lacks {expected}: {lines:#?}");
            }
        }
        let build = stage("build");
        for option in super::STRIP {
            assert!(build.iter().any(|line| line.contains(option)), "stage build lacks {option}");
        }
    }
}
