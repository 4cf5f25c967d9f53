//! etcd, API server, controller manager and scheduler: what they are told, and a set of them on this machine's loopback
//! that lives as long as its owner.

use crate::credentials::{self, Server, User};
use crate::process::{self, Lifetime, Mark};
use crate::service::{self, Service};
use crate::{tools, wait};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

/// From start to the first usable namespace: about 4 s on an idle core, and tests run side by side on busy ones.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// Ports for API servers: below the range from which the kernel takes ports for outgoing connections, which could take
/// one between our look and the server's start.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port can still be taken by another starting server; the next try has another.
const TRIES: usize = 3;

/// The network of Services' addresses.
pub(crate) const SERVICE_NETWORK: &str = "10.96.0.0/16";

/// The kernel's bound on a Unix socket's path.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why there is no control plane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the cluster's programs are missing")]
    Tools(#[from] tools::Error),
    #[error("making credentials for the control plane")]
    Credentials(#[from] credentials::Error),
    #[error("a process of the control plane")]
    Process(#[from] process::Error),
    #[error("{doing} {}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is too long a path for etcd's socket; set TMPDIR to a shorter one", path.display())]
    PathTooLong { path: PathBuf },
    #[error("no free port among {} to {}", PORTS.start, PORTS.end)]
    NoPort,
    #[error("{name} ended while the control plane was starting ({}); its log ends with\n{tail}", log.display())]
    Ended { name: &'static str, log: PathBuf, tail: String },
    #[error(
        "the control plane was not ready after {} s (logs: {}); {name} says\n{tail}",
        READY_TIMEOUT.as_secs(), logs.display()
    )]
    NotReady { name: &'static str, logs: PathBuf, tail: String },
}

/// Where a control plane's files are and where it listens.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub folder: PathBuf,
    pub hyperkube: PathBuf,
    /// What the API server binds and, with nodes, is known by to them.
    pub address: Ipv4Addr,
    pub port: u16,
}

impl Settings {
    pub fn credentials(&self) -> PathBuf {
        self.folder.join("credentials")
    }

    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.credentials().join(format!("{user}.kubeconfig"))
    }

    fn etcd_socket(&self) -> PathBuf {
        self.folder.join("etcd.sock")
    }

    /// The programs, in the order of their start.
    pub fn services(&self) -> Vec<Service> {
        let service = |name: &'static str, arguments: Vec<String>| Service {
            name,
            program: self.hyperkube.clone(),
            arguments: std::iter::once(name.to_owned()).chain(arguments).collect(),
        };
        vec![
            service("etcd", self.etcd()),
            service("apiserver", self.api_server()),
            service("controller-manager", self.controller_manager()),
            service("scheduler", self.scheduler()),
        ]
    }

    /// A socket for its one client; the peers' port is of no use with one member, so any will do.
    fn etcd(&self) -> Vec<String> {
        let client = format!("unix://{}", self.etcd_socket().display());
        vec![
            format!("--data-dir={}", self.folder.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
            // A crash of the machine ends the cluster anyway.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    fn api_server(&self) -> Vec<String> {
        let credential = |name: &str| self.credentials().join(name).display().to_string();
        // Loopback may not stand in the endpoints of the Service `kubernetes`, and without pods nobody asks for it.
        let reconciler = if self.address.is_loopback() { "none" } else { "lease" };
        vec![
            format!("--etcd-servers=unix://{}", self.etcd_socket().display()),
            format!(
                "--bind-address={}",
                if self.address.is_loopback() { self.address } else { Ipv4Addr::UNSPECIFIED }
            ),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={}", self.port),
            format!("--endpoint-reconciler-type={reconciler}"),
            format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
            format!("--tls-cert-file={}", credential("api.crt")),
            format!("--tls-private-key-file={}", credential("api.key")),
            format!("--client-ca-file={}", credential("ca.crt")),
            format!("--token-auth-file={}", credential("tokens.csv")),
            format!("--service-account-key-file={}", credential("sa.pub")),
            format!("--service-account-signing-key-file={}", credential("sa.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            // Pod Security and the rest of the usual plugins are on by default.
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    /// It acts as administrator: a token for each of its forty controllers would double the start.
    fn controller_manager(&self) -> Vec<String> {
        let credential = |name: &str| self.credentials().join(name).display().to_string();
        vec![
            format!("--kubeconfig={}", credential("admin.kubeconfig")),
            format!("--service-account-private-key-file={}", credential("sa.key")),
            format!("--root-ca-file={}", credential("ca.crt")),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            // A dead or cut node is noticed after 16 s; Kubernetes' own default is 50 s.
            "--node-monitor-grace-period=16s".to_owned(),
            "--node-monitor-period=2s".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    fn scheduler(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.kubeconfig("kube-scheduler").display()),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    /// Makes folders and credentials.
    pub fn prepare(&self, users: &[User], addresses: &[Ipv4Addr]) -> Result<(), Error> {
        let socket = self.etcd_socket();
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(Error::PathTooLong { path: socket });
        }
        let logs = self.logs();
        fs::create_dir_all(&logs).map_err(file("creating", &logs))?;
        credentials::write(&self.credentials(), &Server { addresses, port: self.port }, users)?;
        Ok(())
    }

    /// kubectl as administrator.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.hyperkube);
        command.arg("kubectl").env("KUBECONFIG", self.kubeconfig("admin"));
        // Its cache of discovery is in the home folder otherwise, and all clusters here have one address.
        command.env("KUBECACHEDIR", self.folder.join("kubectl-cache")).stdin(Stdio::null());
        command
    }

    /// Waits until objects can be made and pods admitted: the controller manager has made the first service account.
    /// `enter` makes a command run where the API server can be reached, `ended` names a program that has ended.
    pub fn wait_ready(
        &self,
        mut enter: impl FnMut(&mut Command),
        mut ended: impl FnMut() -> Option<&'static str>,
    ) -> Result<(), Error> {
        let logs = self.logs();
        let ready = wait::until(READY_TIMEOUT, || {
            if let Some(name) = ended() {
                return Err(Error::Ended {
                    name,
                    log: service::log(&logs, name),
                    tail: service::log_tail(&logs, name),
                });
            }
            let mut command = self.kubectl();
            command.args(["--request-timeout=5s", "get", "serviceaccount", "default"]);
            enter(&mut command);
            let output = command.output().map_err(file("starting", &self.hyperkube))?;
            Ok(output.status.success().then_some(()))
        })?;
        let name = "apiserver";
        ready.ok_or_else(|| Error::NotReady { name, tail: service::log_tail(&logs, name), logs })
    }
}

/// A control plane on this machine's loopback, without nodes: what tests of controllers need. It ends when it is dropped,
/// or with this process, whichever is first; nothing of it stays.
#[derive(Debug)]
pub struct ControlPlane {
    settings: Settings,
    children: Vec<(&'static str, Child)>,
}

impl ControlPlane {
    /// Starts one and waits until it is ready, about 4 s. Needs no root. Several may run at once.
    ///
    /// # Errors
    /// When a program is missing, ends, or is not ready in time.
    pub fn start() -> Result<Self, Error> {
        let hyperkube = tools::HYPERKUBE.built()?.join("hyperkube");
        let mut tries = 1;
        loop {
            match Self::start_once(&hyperkube) {
                Err(Error::Ended { name: "apiserver", tail, .. })
                    if tries < TRIES && tail.contains("address already in use") =>
                {
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn start_once(hyperkube: &Path) -> Result<Self, Error> {
        let settings = Settings {
            folder: temporary_folder()?,
            hyperkube: hyperkube.to_path_buf(),
            address: Ipv4Addr::LOCALHOST,
            port: free_port()?,
        };
        let mut plane = Self { settings, children: Vec::new() };
        let settings = &plane.settings;
        settings.prepare(&[User::admin(), User::program("kube-scheduler")], &[settings.address])?;
        let mark = Mark { folder: settings.folder.clone(), part: "control-plane".to_owned() };
        for service in settings.services() {
            let command = service
                .command(&settings.logs())
                .map_err(file("opening logs in", &settings.logs()))?;
            plane.children.push((service.name, process::start(command, &mark, Lifetime::WithUs)?));
        }
        let children = &mut plane.children;
        plane.settings.wait_ready(
            |_| (),
            || {
                let mut children = children.iter_mut();
                children.find_map(|(name, child)| {
                    matches!(child.try_wait(), Ok(Some(_))).then_some(*name)
                })
            },
        )?;
        Ok(plane)
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> PathBuf {
        self.settings.kubeconfig("admin")
    }

    /// The servers' logs, one file each, for a failing test to show.
    pub fn logs(&self) -> PathBuf {
        self.settings.logs()
    }

    /// Runs kubectl as administrator to its end.
    ///
    /// # Errors
    /// When it cannot be started; what it says is in the output.
    pub fn kubectl<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Output, Error> {
        let mut command = self.settings.kubectl();
        command.args(arguments).output().map_err(file("starting", &self.settings.hyperkube))
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // All first, so that none logs the others' absence. What fails here has ended already.
        for (_, child) in &mut self.children {
            let _ = child.kill();
        }
        for (_, child) in &mut self.children {
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.settings.folder);
    }
}

/// A port that nothing listens on now; where the search begins differs from process to process and call to call.
pub(crate) fn free_port() -> Result<u16, Error> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let start = now.subsec_micros().wrapping_add(std::process::id().wrapping_mul(97));
    let count = u32::from(PORTS.end - PORTS.start);
    let candidates =
        (0..count).filter_map(|step| u16::try_from(start.wrapping_add(step) % count).ok());
    let mut ports = candidates.map(|offset| PORTS.start + offset);
    ports.find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()).ok_or(Error::NoPort)
}

/// Begins the names of the folders of control planes that end with their owners.
const FOLDER_PREFIX: &str = "boyle-control-plane-";

/// A new folder, after removing those whose owners were killed before they could.
fn temporary_folder() -> Result<PathBuf, Error> {
    let parent = std::env::temp_dir();
    for entry in fs::read_dir(&parent).map_err(file("listing", &parent))?.flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(FOLDER_PREFIX)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another user's, or somebody else removes it right now.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("{FOLDER_PREFIX}{}-", std::process::id());
    let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(&parent);
    made.map(tempfile::TempDir::keep).map_err(file("creating a folder in", &parent))
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::File { doing, path, source }
}
