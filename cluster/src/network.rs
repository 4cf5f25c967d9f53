//! The network between machines: addresses, routes and cables, as values and as `ip` commands.
//!
//! All of it exists inside the machines' namespaces only. So every cluster has the same addresses and interface names,
//! two never meet, and nothing leads outside.

use crate::control_plane::SERVICE_NETWORK;
use crate::machine::{self, Machine};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// Nodes' addresses are 10.200.0.11 to 10.200.0.99.
pub const NODES_MAX: u8 = 89;

/// The control plane: API server, names, and the bridge that every node is plugged into.
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);

/// Every pod's address.
pub const POD_NETWORK: &str = "10.244.0.0/16";

/// The first address of the Services' network is the API server's.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// Why the network could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("entering a machine's network")]
    Machine(#[from] machine::Error),
    #[error("running `ip`, from the package iproute2")]
    Start(#[source] io::Error),
    #[error("`ip` refused one of\n{commands}it said: {said}")]
    Refused { commands: String, said: String },
}

/// A node's address on the bridge.
pub fn node_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 200, 0, 10 + number)
}

/// The addresses of a node's pods.
pub fn pod_network(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// Makes the bridge.
///
/// # Errors
/// When `ip` fails.
pub fn make_bridge(control_plane: &Machine) -> Result<(), Error> {
    ip(control_plane, &bridge_commands())
}

/// Services' addresses exist nowhere, but a packet needs a route before kube-proxy's rules send it elsewhere.
fn bridge_commands() -> String {
    format!(
        "link set lo up\nlink add bridge type bridge\naddress add {CONTROL_PLANE}/24 dev bridge\nlink set bridge up\n\
         route add {SERVICE_NETWORK} dev bridge\n"
    )
}

/// Takes a node's cable away, if there is one: the kernel removes that of a dead node a little later, and a node that
/// comes back must not meet it.
///
/// # Errors
/// When `ip` cannot be run.
pub fn unplug(control_plane: &Machine, number: u8) -> Result<(), Error> {
    match ip(control_plane, &format!("link delete node{number}\n")) {
        Ok(()) | Err(Error::Refused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Plugs a node in. `count` nodes there are, this is the one with `number`.
///
/// # Errors
/// When `ip` fails.
pub fn plug(control_plane: &Machine, node: &Machine, number: u8, count: u8) -> Result<(), Error> {
    unplug(control_plane, number)?;
    ip(control_plane, &plug_commands(number, node.pid()))?;
    ip(node, &node_commands(number, count))
}

/// On the control plane's side. The route of a node that comes back is there already.
fn plug_commands(number: u8, pid: u32) -> String {
    format!(
        "link add node{number} type veth peer name eth0 netns {pid}\nlink set node{number} master bridge up\n\
         route replace {} via {}\n",
        pod_network(number),
        node_address(number)
    )
}

fn node_commands(number: u8, count: u8) -> String {
    let address = node_address(number);
    let own = format!(
        "link set lo up\naddress add {address}/24 dev eth0\nlink set eth0 up\nroute add default via {CONTROL_PLANE}\n"
    );
    let others = (1..=count).filter(|&other| other != number);
    let routes = others
        .map(|other| format!("route add {} via {}\n", pod_network(other), node_address(other)));
    std::iter::once(own).chain(routes).collect()
}

/// Pulls a node's cable.
///
/// # Errors
/// When `ip` fails.
pub fn cut(control_plane: &Machine, number: u8) -> Result<(), Error> {
    ip(control_plane, &format!("link set node{number} down\n"))
}

/// Puts a node's cable back.
///
/// # Errors
/// When `ip` fails.
pub fn join(control_plane: &Machine, number: u8) -> Result<(), Error> {
    ip(control_plane, &format!("link set node{number} up\n"))
}

fn ip(machine: &Machine, commands: &str) -> Result<(), Error> {
    let mut command = Command::new("ip");
    command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    machine.enter_network(&mut command)?;
    let mut child = command.spawn().map_err(Error::Start)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(commands.as_bytes()).map_err(Error::Start)?;
    }
    let output = child.wait_with_output().map_err(Error::Start)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Refused { commands: commands.to_owned(), said })
}
