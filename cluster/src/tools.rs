//! The programs of a cluster, built once from pinned Go modules and kept outside the repository.
//!
//! Each module's folder in the cache carries a hash of its sources, checksums and flags, so a change of version builds a
//! new one beside the old, and two clones share. Go verifies every download against the committed checksums.

use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Kubernetes' version, as `kubectl version` prints it; `go/hyperkube/go.mod` pins the same.
pub const KUBERNETES_VERSION: &str = "1.37.2";

/// Why the programs are not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no folder to keep the cluster's programs in; set BOYLE_CACHE_DIR")]
    NoCache,
    #[error("{doing} {}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the cluster's programs are built with Go, which is not on the PATH; install Go 1.21 or later \
         from https://go.dev/dl (it fetches the version it needs)"
    )]
    NoGo,
    #[error("building {module} failed; what Go said is in {}:\n{tail}", log.display())]
    Build { module: &'static str, log: PathBuf, tail: String },
}

/// A Go module and the programs that it makes.
#[derive(Debug)]
pub struct Module {
    pub name: &'static str,
    /// How long a first build takes with two cores, to tell people.
    minutes: f32,
    /// Name and content; Go's sources, go.mod and go.sum.
    files: &'static [(&'static str, &'static str)],
    /// Import paths of the programs; `.` is the module's own, which gets the module's name.
    packages: &'static [&'static str],
    flags: &'static [&'static str],
}

/// Every module's file lies in `go/NAME/`.
macro_rules! files {
    ($module:literal: $($name:literal),+) => {
        &[$(($name, include_str!(concat!("../go/", $module, "/", $name)))),+]
    };
}

/// etcd, the Kubernetes servers, kubelet, kube-proxy and kubectl.
pub const HYPERKUBE: Module = Module {
    name: "hyperkube",
    minutes: 9.0,
    files: files!("hyperkube": "go.mod", "go.sum", "main.go"),
    packages: &["."],
    flags: &[
        "-tags=providerless",
        "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 \
         -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37",
    ],
};

/// containerd, its shim and its command line.
pub const CONTAINERD: Module = Module {
    name: "containerd",
    minutes: 1.5,
    files: files!("containerd": "go.mod", "go.sum", "tools.go"),
    packages: &[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ],
    flags: &["-tags=no_btrfs,no_zfs,no_devmapper", "-ldflags=-s -w"],
};

/// Names inside the cluster.
pub const COREDNS: Module = Module {
    name: "coredns",
    minutes: 1.5,
    files: files!("coredns": "go.mod", "go.sum", "main.go"),
    packages: &["."],
    flags: &["-ldflags=-s -w"],
};

/// What installs charts.
pub const HELM: Module = Module {
    name: "helm",
    minutes: 2.5,
    files: files!("helm": "go.mod", "go.sum", "tools.go"),
    packages: &["helm.sh/helm/v4/cmd/helm"],
    flags: &["-ldflags=-s -w"],
};

/// Process 1 of sandboxes and machines.
pub const PAUSE: Module = Module {
    name: "pause",
    minutes: 0.1,
    files: files!("pause": "go.mod", "main.go"),
    packages: &["."],
    flags: &["-ldflags=-s -w"],
};

/// What tests run in pods. Not part of [`ALL`].
pub const PROBE: Module = Module {
    name: "probe",
    minutes: 0.2,
    files: files!("probe": "go.mod", "main.go"),
    packages: &["."],
    flags: &["-ldflags=-s -w"],
};

/// All that a cluster with nodes needs.
pub const ALL: [&Module; 5] = [&PAUSE, &CONTAINERD, &COREDNS, &HELM, &HYPERKUBE];

/// Static binaries, no path of this machine in them, versions from go.mod and nowhere else.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("CGO_ENABLED", "0"),
    ("GOFLAGS", "-mod=readonly -buildvcs=false -trimpath"),
    ("GOWORK", "off"),
];

impl Module {
    /// The folder with the programs, built now if need be; says so on stderr, because the first time takes minutes.
    ///
    /// # Errors
    /// When there is no Go, a download or build fails, or the cache cannot be written.
    pub fn built(&self) -> Result<PathBuf, Error> {
        self.built_in(&cache()?)
    }

    /// As [`Self::built`], in a given cache.
    ///
    /// # Errors
    /// As [`Self::built`].
    pub fn built_in(&self, cache: &Path) -> Result<PathBuf, Error> {
        let folder = cache.join(format!("{}-{}", self.name, self.key())).join("bin");
        if folder.is_dir() {
            return Ok(folder);
        }
        fs::create_dir_all(cache).map_err(file("creating", cache))?;
        // Whoever comes second waits here, and then finds the folder.
        let lock_path = cache.join("lock");
        let lock = File::create(&lock_path).map_err(file("creating", &lock_path))?;
        lock.lock().map_err(file("locking", &lock_path))?;
        if !folder.is_dir() {
            self.build(cache, &folder)?;
        }
        Ok(folder)
    }

    /// What the programs depend on, as 16 hex digits: sources, versions, checksums, flags, architecture.
    pub fn key(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        for (name, content) in self.files {
            add(name);
            add(content);
        }
        for word in self.packages.iter().chain(self.flags) {
            add(word);
        }
        for (name, value) in ENVIRONMENT {
            add(name);
            add(value);
        }
        add(std::env::consts::ARCH);
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    fn build(&self, cache: &Path, folder: &Path) -> Result<(), Error> {
        if !go_is_there() {
            return Err(Error::NoGo);
        }
        let started = Instant::now();
        eprintln!(
            "building {} from Go modules, once: up to {} minutes with two cores …",
            self.name, self.minutes
        );
        let unfinished = cache.join(format!("{}.unfinished", self.name));
        remove(&unfinished)?;
        let (sources, bin) = (unfinished.join("sources"), unfinished.join("bin"));
        for path in [&sources, &bin] {
            fs::create_dir_all(path).map_err(file("creating", path))?;
        }
        for (name, content) in self.files {
            let path = sources.join(name);
            fs::write(&path, content).map_err(file("writing", &path))?;
        }
        self.compile(&sources, &bin, &cache.join(format!("{}.log", self.name)))?;
        if let Some(keyed) = folder.parent() {
            remove(&sources)?;
            fs::rename(&unfinished, keyed).map_err(file("renaming", &unfinished))?;
        }
        eprintln!("built {} in {:.0} s", self.name, started.elapsed().as_secs_f32());
        Ok(())
    }

    fn compile(&self, sources: &Path, bin: &Path, log: &Path) -> Result<(), Error> {
        let output = File::create(log).map_err(file("creating", log))?;
        let errors = output.try_clone().map_err(file("opening", log))?;
        let mut command = Command::new("nice");
        command.args(["go", "build", "-o"]).arg(format!("{}/", bin.display()));
        command.args(self.flags).args(self.packages).current_dir(sources);
        command
            .envs(ENVIRONMENT.iter().copied())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        let status = command.status().map_err(file("starting go in", sources))?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        Err(Error::Build {
            module: self.name,
            log: log.to_path_buf(),
            tail: crate::service::tail(&said),
        })
    }
}

fn go_is_there() -> bool {
    let mut command = Command::new("go");
    command.arg("version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file("removing", folder)(error))
        }
        _ => Ok(()),
    }
}

/// Where what is made or fetched once is kept: `boyle-cluster` in `BOYLE_CACHE_DIR` or the user's cache folder.
///
/// # Errors
/// When there is no home folder either.
pub fn cache() -> Result<PathBuf, Error> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("BOYLE_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME"))
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .map(|folder| folder.join("boyle-cluster"))
        .ok_or(Error::NoCache)
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::File { doing, path, source }
}
