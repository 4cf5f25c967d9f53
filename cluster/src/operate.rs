//! What is done to a running cluster: images, power, cables, pods.

use crate::boot;
use crate::cluster::{Cluster, Error, file};
use crate::network;
use crate::node::{self, CONTAINERD_NAMESPACE, SOCKET};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::SystemTime;

/// How long pods of a drained node may take to go, as kubectl takes it: longer than any grace period that we give.
const DRAIN_TIMEOUT: &str = "--timeout=300s";

impl Cluster {
    /// Puts an image, a tar file in OCI's layout, into every node.
    ///
    /// # Errors
    /// When a node is not running or refuses it.
    pub fn load(&self, tar: &Path) -> Result<(), Error> {
        thread::scope(|scope| {
            let numbers = 1..=self.nodes();
            let nodes: Vec<_> =
                numbers.map(|number| scope.spawn(move || self.load_into(tar, number))).collect();
            nodes.into_iter().try_for_each(|node| match node.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    fn load_into(&self, tar: &Path, number: u8) -> Result<(), Error> {
        let input = File::open(tar).map_err(file("opening", tar))?;
        let mut command = self.containerd(number)?;
        command.args(["images", "import", "-"]).stdin(input);
        self.passed(&mut command, &format!("loading an image into {}", node::name(number)))
            .map(drop)
    }

    /// containerd's command line on a node.
    fn containerd(&self, number: u8) -> Result<Command, Error> {
        let mut command = Command::new(self.node(number)?.containerd.join("ctr"));
        command.args(["--address", SOCKET, "--namespace", CONTAINERD_NAMESPACE]);
        command.stdin(Stdio::null());
        self.machine(number)?.enter(&mut command)?;
        Ok(command)
    }

    /// Runs a command to its end and returns what it printed.
    pub(crate) fn passed(&self, command: &mut Command, doing: &str) -> Result<String, Error> {
        let output = command.output().map_err(file("running a program in", self.folder()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        Err(Error::Refused { doing: doing.to_owned(), said })
    }

    /// Runs kubectl as administrator and returns what it printed.
    ///
    /// # Errors
    /// When it fails; its own words are in the error.
    pub fn kubectl<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<String, Error> {
        let mut command = boot::kubectl(self)?;
        command.args(arguments);
        self.passed(&mut command, "kubectl")
    }

    /// Takes a node's power away: its network first, so that no process can say goodbye, then everything at once.
    ///
    /// # Errors
    /// When it is not running.
    pub fn power_off(&self, number: u8) -> Result<(), Error> {
        let _lock = self.name().lock()?;
        let machine = self.machine(number)?;
        network::unplug(&self.control_plane()?, number)?;
        Ok(machine.power_off()?)
    }

    /// Starts a node again, with the images and disks that it had, and waits until it is ready.
    ///
    /// # Errors
    /// When it runs already or does not come up.
    pub fn power_on(&self, number: u8) -> Result<(), Error> {
        let _lock = self.name().lock()?;
        if self.machine(number).is_ok() {
            let (doing, said) =
                (format!("power-on of {}", node::name(number)), "it is running".to_owned());
            return Err(Error::Refused { doing, said });
        }
        self.checked(number)?;
        let since = SystemTime::now();
        boot::boot_node(self, number)?;
        boot::start_node(self, number)?;
        boot::wait_ready(self, number, since)
    }

    /// Pulls a node's cable: everything on it runs on, alone.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn cut(&self, number: u8) -> Result<(), Error> {
        Ok(network::cut(&self.control_plane()?, self.checked(number)?)?)
    }

    /// Puts a node's cable back.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn join(&self, number: u8) -> Result<(), Error> {
        Ok(network::join(&self.control_plane()?, self.checked(number)?)?)
    }

    /// Moves a node's pods away, as before maintenance, and keeps others from coming until [`Self::uncordon`].
    ///
    /// # Errors
    /// When a pod may not be evicted in time.
    pub fn drain(&self, number: u8) -> Result<(), Error> {
        let name = node::name(self.checked(number)?);
        let ways = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", DRAIN_TIMEOUT];
        self.kubectl(["drain", name.as_str()].into_iter().chain(ways)).map(drop)
    }

    /// Lets pods come to a node again.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn uncordon(&self, number: u8) -> Result<(), Error> {
        self.kubectl(["uncordon", node::name(self.checked(number)?).as_str()]).map(drop)
    }

    /// Kills the first container of a pod the hard way: SIGKILL to its main process, no grace.
    ///
    /// # Errors
    /// When there is no such pod or it runs nothing.
    pub fn kill_pod(&self, namespace: &str, name: &str) -> Result<(), Error> {
        let query = "--output=jsonpath={.spec.nodeName} {.status.containerStatuses[0].containerID}";
        let said = self.kubectl(["get", "pod", "--namespace", namespace, name, query])?;
        let found = said.split_once(' ').and_then(|(node, container)| {
            Some((
                node.strip_prefix("node")?.parse().ok()?,
                container.strip_prefix("containerd://")?,
            ))
        });
        let doing = format!("killing pod {namespace}/{name}");
        let Some((number, container)) = found else {
            return Err(Error::Refused {
                doing,
                said: format!("it has no running container: {said:?}"),
            });
        };
        let mut command = self.containerd(number)?;
        command.args(["tasks", "kill", "--signal", "SIGKILL", container]);
        self.passed(&mut command, &doing).map(drop)
    }
}
