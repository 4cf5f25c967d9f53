//! A named cluster that outlives the command which started it.

use crate::boot;
use crate::cgroups;
use crate::control_plane::{self, Settings};
use crate::folder::{self, Name};
use crate::image;
use crate::machine::{self, Machine};
use crate::marks;
use crate::network::{self, CONTROL_PLANE};
use crate::node::{self, Node};
use crate::packages;
use crate::process::Mark;
use crate::tools;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each round kills what the one before started while it was killed; nothing restarts anything, so two are enough.
const KILL_ROUNDS: usize = 5;

/// Why a cluster could not be made, changed or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the cluster's folder")]
    Folder(#[from] folder::Error),
    #[error("the cluster's programs are missing")]
    Tools(#[from] tools::Error),
    #[error("what runs containers is missing")]
    Packages(#[from] packages::Error),
    #[error("the control plane")]
    ControlPlane(#[from] control_plane::Error),
    #[error("a machine of the cluster")]
    Machine(#[from] machine::Error),
    #[error("the cluster's network")]
    Network(#[from] network::Error),
    #[error("finding or ending the cluster's processes")]
    Marks(#[from] marks::Error),
    #[error("starting a process of the control plane")]
    Process(#[from] crate::process::Error),
    #[error("{doing} {}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("reading {}, which `up` wrote", path.display())]
    Record { path: PathBuf, source: serde_json::Error },
    #[error("making the sandbox image")]
    Image(#[from] image::Error),
    #[error("nodes: {nodes} are too many, at most {}", network::NODES_MAX)]
    TooManyNodes { nodes: u8 },
    #[error(
        "cluster {name} exists; take another name, or end it: cargo xtask cluster down --name {name}"
    )]
    Exists { name: Name },
    #[error("there is no cluster {name}; start it: cargo xtask cluster up --name {name}")]
    Missing { name: Name },
    #[error("cluster {name} has no node {number}; it has {nodes}")]
    NoNode { name: Name, number: u8, nodes: u8 },
    #[error("{doing} failed:\n{said}")]
    Refused { doing: String, said: String },
    #[error("{what} was not there after {seconds} s; logs are in {}", logs.display())]
    TooLate { what: String, seconds: u64, logs: PathBuf },
    #[error("{} processes of the cluster keep appearing", .0)]
    Unending(usize),
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    pub name: Name,
    /// 0: only a control plane, on this machine's loopback.
    pub nodes: u8,
    /// Pretended `nvidia.com/gpu` of each node.
    pub gpus: u32,
}

/// What is kept of the options, and what was chosen at the start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub nodes: u8,
    pub gpus: u32,
    port: u16,
}

/// A cluster, running or half-made.
#[derive(Debug)]
pub struct Cluster {
    name: Name,
    folder: PathBuf,
    pub(crate) record: Record,
}

/// Which part of a cluster runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub name: Name,
    pub nodes: u8,
    /// `control-plane`, `node1`, …
    pub running: Vec<String>,
}

/// The machine with the API server, or the processes of a cluster without machines.
pub(crate) const CONTROL_PLANE_PART: &str = "control-plane";

/// The port of API servers that have a network of their own.
const PORT: u16 = 6443;

impl Cluster {
    /// Starts a cluster and waits until its nodes are ready.
    ///
    /// # Errors
    /// When the name is taken, something is missing, or it does not come up; then its processes are ended and its logs
    /// kept until [`Self::down`].
    pub fn up(options: &Options) -> Result<Self, Error> {
        let Options { name, nodes, gpus } = options;
        if *nodes > network::NODES_MAX {
            return Err(Error::TooManyNodes { nodes: *nodes });
        }
        if *nodes > 0 {
            packages::check()?;
            tools::ALL.iter().try_for_each(|module| module.built().map(drop))?;
        }
        tools::HYPERKUBE.built()?;
        let _lock = name.lock()?;
        let folder = name.folder();
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists { name: name.clone() });
            }
            made => made.map_err(file("creating", &folder))?,
        }
        let port = if *nodes == 0 { control_plane::free_port()? } else { PORT };
        let record = Record { nodes: *nodes, gpus: *gpus, port };
        write_record(&folder, &record)?;
        let cluster = Self { name: name.clone(), folder, record };
        if let Err(error) = boot::cluster(&cluster) {
            // The first error tells more than that of cleaning up, which `down` repeats.
            let _ = cluster.end_processes();
            return Err(error);
        }
        Ok(cluster)
    }

    /// The cluster of a name.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(name: &Name) -> Result<Self, Error> {
        let folder = name.folder();
        let path = folder.join("cluster.json");
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { name: name.clone() });
            }
            text => text.map_err(file("reading", &path))?,
        };
        let record =
            serde_json::from_slice(&text).map_err(|source| Error::Record { path, source })?;
        Ok(Self { name: name.clone(), folder, record })
    }

    /// Ends a cluster and removes all of it, whatever state it is in; says whether there was anything.
    ///
    /// # Errors
    /// When a process cannot be ended or a file not removed; it may be repeated.
    pub fn down(name: &Name) -> Result<bool, Error> {
        let _lock = name.lock()?;
        let folder = name.folder();
        // What was found is only read if it is whole; ending needs none of it.
        let cluster =
            Self { name: name.clone(), folder, record: Record { nodes: 0, gpus: 0, port: 0 } };
        let ended = cluster.end_processes()?;
        match fs::remove_dir_all(&cluster.folder) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ended > 0),
            Err(error) => Err(file("removing", &cluster.folder)(error)),
        }
    }

    /// Every cluster on this machine.
    ///
    /// # Errors
    /// When clusters or processes cannot be listed.
    pub fn list() -> Result<Vec<Summary>, Error> {
        let mut summaries = Vec::new();
        for name in folder::names()? {
            let nodes = Self::open(&name).map_or(0, |cluster| cluster.record.nodes);
            let processes = marks::find(&name.folder())?;
            let mut running: Vec<_> = processes.into_iter().map(|process| process.part).collect();
            running.sort();
            running.dedup();
            summaries.push(Summary { name, nodes, running });
        }
        Ok(summaries)
    }

    fn end_processes(&self) -> Result<usize, Error> {
        let mut ended = 0;
        for _ in 0..KILL_ROUNDS {
            let processes = marks::find(&self.folder)?;
            if processes.is_empty() {
                cgroups::remove(&self.cgroup()).map_err(file("removing cgroups", &self.folder))?;
                return Ok(ended);
            }
            marks::kill(&processes)?;
            ended += processes.len();
        }
        Err(Error::Unending(ended))
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    /// How many nodes it was started with.
    pub fn nodes(&self) -> u8 {
        self.record.nodes
    }

    /// Whether every machine of it has power. After a restart of the host none has.
    ///
    /// # Errors
    /// When processes cannot be listed.
    pub fn is_whole(&self) -> Result<bool, Error> {
        let processes = marks::find(&self.folder)?;
        let runs = |part: &str| processes.iter().any(|process| process.part == part);
        let mut nodes = (1..=self.record.nodes).map(node::name);
        Ok(runs(CONTROL_PLANE_PART) && nodes.all(|node| runs(&node)))
    }

    /// The administrator's kubeconfig file. With nodes, its address is reached from inside only: see [`Self::command`].
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("credentials/admin.kubeconfig")
    }

    /// The folder with `kubectl` and `helm`.
    pub fn programs(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// A command that reaches Services and knows their names; kubectl and helm are on its PATH and act as administrator.
    ///
    /// # Errors
    /// When the control plane is not running.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command, Error> {
        let mut command = Command::new(program);
        let old = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.programs()).chain(std::env::split_paths(&old));
        // A folder with a colon in its name was in no PATH before.
        command.env("PATH", std::env::join_paths(folders).unwrap_or(old.clone()));
        command.env("KUBECONFIG", self.kubeconfig());
        command.env("KUBECACHEDIR", self.folder.join("kubectl-cache"));
        if self.record.nodes > 0 {
            self.control_plane()?
                .enter_network_and_names(&mut command, &self.folder.join("resolv.conf"))?;
        }
        Ok(command)
    }

    /// Puts the calling thread, and threads that it starts from now on, into the cluster's network, so that its Services'
    /// and pods' addresses can be reached. Names are not resolved. Does nothing for a cluster without nodes.
    ///
    /// # Errors
    /// When the control plane is not running.
    pub fn join_network(&self) -> Result<(), Error> {
        if self.record.nodes > 0 {
            self.control_plane()?.join_network()?;
        }
        Ok(())
    }

    pub(crate) fn control_plane(&self) -> Result<Machine, Error> {
        Ok(Machine::find(&self.mark(CONTROL_PLANE_PART.to_owned()))?)
    }

    pub(crate) fn machine(&self, number: u8) -> Result<Machine, Error> {
        Ok(Machine::find(&self.mark(node::name(self.checked(number)?)))?)
    }

    /// `number`, if there is such a node.
    pub(crate) fn checked(&self, number: u8) -> Result<u8, Error> {
        let (name, nodes) = (self.name.clone(), self.record.nodes);
        if (1..=nodes).contains(&number) {
            Ok(number)
        } else {
            Err(Error::NoNode { name, number, nodes })
        }
    }

    pub(crate) fn mark(&self, part: String) -> Mark {
        Mark { folder: self.folder.clone(), part }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Clusters in different folders may have one name, and all of a machine's containers are in one tree of cgroups.
    fn cgroup(&self) -> String {
        let hash = image::sha256(self.folder.as_os_str().as_encoded_bytes());
        format!("boyle-{}-{}", self.name, hash.get(..8).unwrap_or_default())
    }

    pub(crate) fn settings(&self) -> Result<Settings, Error> {
        let address = if self.record.nodes == 0 { Ipv4Addr::LOCALHOST } else { CONTROL_PLANE };
        let hyperkube = tools::HYPERKUBE.built()?.join("hyperkube");
        Ok(Settings { folder: self.folder.clone(), hyperkube, address, port: self.record.port })
    }

    pub(crate) fn node(&self, number: u8) -> Result<Node, Error> {
        Ok(Node {
            number,
            folder: self.folder.join(node::name(number)),
            credentials: self.folder.join("credentials"),
            cgroup: self.cgroup(),
            hyperkube: tools::HYPERKUBE.built()?.join("hyperkube"),
            containerd: tools::CONTAINERD.built()?,
        })
    }
}

fn write_record(folder: &Path, record: &Record) -> Result<(), Error> {
    let path = folder.join("cluster.json");
    let text = serde_json::to_string_pretty(record)
        .map_err(|source| Error::Record { path: path.clone(), source })?;
    fs::write(&path, text).map_err(file("writing", &path))
}

pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::File { doing, path, source }
}
