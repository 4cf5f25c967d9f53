//! What Boyle's programs need of an operating system, taken from Debian's packages: the C library, the unwinder's
//! library and certificates. No shell, no package manager.

use crate::process;
use anyhow::{Context, Result, bail, ensure};
use cluster::image::{DATA, Layer, PROGRAM};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the files come from. Their exact versions are labels of the images.
const PACKAGES: [&str; 3] = ["ca-certificates", "libc6", "libgcc-s1"];

/// Character sets that nothing of ours converts between; they are most of libc6.
const LEFT_OUT: &str = "/gconv/";

/// Who an image's user is, for libraries that ask.
const PASSWD: &str = "root:x:0:0:root:/:/nologin\nnonroot:x:65532:65532:nonroot:/:/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";

/// Names of other machines: what the cluster's resolver says.
const NSSWITCH: &str = "hosts: files dns\n";

/// The lowest layer, and where it came from.
#[derive(Debug)]
pub struct Base {
    pub layer: Layer,
    /// Package and version.
    pub versions: Vec<(String, String)>,
}

/// A package as apt names it.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    /// `libc6_2.36-9+deb12u14_amd64.deb`
    file: String,
    sha256: String,
}

impl Package {
    /// One line of `apt-get download --print-uris`: `'URI' FILE SIZE SHA256:HASH`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        let (file, _size, hash) = (words.next()?, words.next()?, words.next()?);
        Some(Self { file: file.to_owned(), sha256: hash.strip_prefix("SHA256:")?.to_owned() })
    }

    /// Name and version, as the file's name has them.
    fn version(&self) -> Option<(String, String)> {
        let mut parts = self.file.split('_');
        let (name, version) = (parts.next()?, parts.next()?);
        Some((name.to_owned(), version.replace("%3a", ":")))
    }
}

/// Makes the layer; downloads are kept in `cache`.
///
/// # Errors
/// Off Debian, or when a package can be neither found nor downloaded.
pub fn make(cache: &Path) -> Result<Base> {
    fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let mut base = Base { layer: Layer::default(), versions: Vec::new() };
    base.layer = base
        .layer
        .link("lib", "usr/lib")
        .link("lib64", "usr/lib64")
        .content("etc/passwd", PASSWD.into(), DATA)
        .content("etc/group", GROUP.into(), DATA)
        .content("etc/nsswitch.conf", NSSWITCH.into(), DATA);
    for package in packages()? {
        let archive = downloaded(&package, cache)?;
        let unpacked = tempfile::tempdir().context("making a temporary folder")?;
        process::passed(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(unpacked.path()))?;
        base.layer = with_files(base.layer, unpacked.path())?;
        base.versions.extend(package.version());
    }
    Ok(base)
}

fn packages() -> Result<Vec<Package>> {
    let mut command = Command::new("apt-get");
    command.args(["download", "--print-uris"]).args(PACKAGES);
    let listed = process::output(&mut command).context(
        "images are made of Debian's packages: run `apt-get update` first; elsewhere use the Dockerfile",
    )?;
    let mut packages: Vec<_> = listed.lines().filter_map(Package::parse).collect();
    packages.sort_by(|one, other| one.file.cmp(&other.file));
    ensure!(packages.len() == PACKAGES.len(), "apt-get listed not all of {PACKAGES:?}:\n{listed}");
    Ok(packages)
}

fn downloaded(package: &Package, cache: &Path) -> Result<PathBuf> {
    let kept = cache.join(&package.file);
    if kept.is_file() && hash(&kept)? == package.sha256 {
        return Ok(kept);
    }
    let folder = tempfile::tempdir_in(cache).context("making a folder for a download")?;
    let name = package.file.split('_').next().unwrap_or_default();
    let mut command = Command::new("apt-get");
    process::passed(command.args(["download", "--quiet", name]).current_dir(folder.path()))?;
    let fetched = folder.path().join(&package.file);
    let got = hash(&fetched)?;
    if got != package.sha256 {
        bail!("{} has hash {got} and not {}; run `apt-get update`", package.file, package.sha256);
    }
    fs::rename(&fetched, &kept).with_context(|| format!("renaming {}", fetched.display()))?;
    Ok(kept)
}

fn hash(path: &Path) -> Result<String> {
    let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(cluster::image::sha256(&content))
}

/// Libraries and licences at their places, and all certificates in the one file that TLS libraries read.
fn with_files(mut layer: Layer, unpacked: &Path) -> Result<Layer> {
    let mut certificates = String::new();
    for path in files(unpacked)? {
        let inside = path.strip_prefix(unpacked)?.to_string_lossy().into_owned();
        if inside.ends_with(".crt") {
            certificates.push_str(&fs::read_to_string(&path)?);
        }
        let Some(place) = place(&inside) else { continue };
        layer = match fs::read_link(&path) {
            Ok(target) => layer.link(&place, &target.to_string_lossy()),
            Err(_) => {
                layer.file(&place, &path, if inside.contains(".so") { PROGRAM } else { DATA })?
            }
        };
    }
    if certificates.is_empty() {
        return Ok(layer);
    }
    Ok(layer.content("etc/ssl/certs/ca-certificates.crt", certificates.into_bytes(), DATA))
}

/// Where a package's file goes, if it goes anywhere. Older Debians have libraries in /lib, which is a link here.
fn place(inside: &str) -> Option<String> {
    let licence = inside.starts_with("usr/share/doc/") && inside.ends_with("/copyright");
    let library = inside.contains(".so") && !inside.contains(LEFT_OUT);
    if licence || (library && inside.starts_with("usr/lib")) {
        return Some(inside.to_owned());
    }
    (library && inside.starts_with("lib")).then(|| format!("usr/{inside}"))
}

/// Files and links below a folder, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?
        {
            let entry = entry?;
            let list = if entry.file_type()?.is_dir() { &mut open } else { &mut found };
            list.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Package, place};

    #[test]
    fn apt_names_packages_with_versions_and_hashes() {
        let line = "'http://x/libc6_2.36-9%2bdeb12u14_amd64.deb' libc6_2.36-9+deb12u14_amd64.deb 27 SHA256:ba4f";
        let package = Package::parse(line).unwrap();
        assert_eq!(package.sha256, "ba4f");
        assert_eq!(package.version(), Some(("libc6".to_owned(), "2.36-9+deb12u14".to_owned())));
        assert_eq!(Package::parse("E: Unable to locate package libc6"), None);
    }

    #[test]
    fn only_libraries_and_licences_are_taken() {
        for (inside, expected) in [
            ("lib/x86_64-linux-gnu/libc.so.6", Some("usr/lib/x86_64-linux-gnu/libc.so.6")),
            ("usr/lib/x86_64-linux-gnu/libc.so.6", Some("usr/lib/x86_64-linux-gnu/libc.so.6")),
            ("lib64/ld-linux-x86-64.so.2", Some("usr/lib64/ld-linux-x86-64.so.2")),
            ("usr/lib/x86_64-linux-gnu/gconv/EUC-JP.so", None),
            ("usr/share/doc/libc6/copyright", Some("usr/share/doc/libc6/copyright")),
            ("usr/share/doc/libc6/NEWS.gz", None),
            ("usr/sbin/update-ca-certificates", None),
            ("usr/share/ca-certificates/mozilla/GTS_Root_R1.crt", None),
        ] {
            assert_eq!(place(inside).as_deref(), expected, "{inside}");
        }
    }
}
