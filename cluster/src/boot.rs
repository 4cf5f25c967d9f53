//! The way from nothing to a cluster whose nodes are ready.

use crate::cluster::{CONTROL_PLANE_PART, Cluster, Error, file};
use crate::control_plane::Settings;
use crate::credentials::User;
use crate::image::{self, Image};
use crate::machine::Machine;
use crate::network::{self, API_SERVICE};
use crate::node::{self, Node};
use crate::process::{self, Ended, Lifetime};
use crate::service::{self, Service};
use crate::{tools, wait};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

/// containerd is there after a second, or not at all; ten nodes may start at once.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(60);

/// A kubelet needs some seconds to register and to find its network; ten of them may share two cores.
const READY_TIMEOUT: Duration = Duration::from_secs(180);

/// Starts all of it.
pub fn cluster(cluster: &Cluster) -> Result<(), Error> {
    let settings = cluster.settings()?;
    let mut users =
        vec![User::admin(), User::program("kube-scheduler"), User::program("kube-proxy")];
    users.extend((1..=cluster.nodes()).map(|number| User::node(&node::name(number))));
    let addresses = [settings.address, API_SERVICE, Ipv4Addr::LOCALHOST];
    settings.prepare(&users, &addresses)?;
    link_programs(cluster)?;
    if cluster.nodes() == 0 {
        on_loopback(cluster, &settings)
    } else {
        on_machines(cluster, &settings)
    }
}

/// What `run` has on its PATH.
fn link_programs(cluster: &Cluster) -> Result<(), Error> {
    let folder = cluster.programs();
    fs::create_dir_all(&folder).map_err(file("creating", &folder))?;
    let mut links = vec![("kubectl", tools::HYPERKUBE.built()?.join("hyperkube"))];
    if cluster.nodes() > 0 {
        links.push(("helm", tools::HELM.built()?.join("helm")));
    }
    for (name, program) in links {
        symlink(program, folder.join(name)).map_err(file("linking programs in", &folder))?;
    }
    Ok(())
}

fn on_loopback(cluster: &Cluster, settings: &Settings) -> Result<(), Error> {
    let mark = cluster.mark(CONTROL_PLANE_PART.to_owned());
    let mut started = Vec::new();
    for service in settings.services() {
        let logs = settings.logs();
        let command = service.command(&logs).map_err(file("opening logs in", &logs))?;
        let child = process::start(command, &mark, Lifetime::UntilKilled)?;
        started.push((service.name, process::watch(child)));
    }
    Ok(settings.wait_ready(|_| (), || ended(&started))?)
}

fn ended(started: &[(&'static str, Ended)]) -> Option<&'static str> {
    started.iter().find_map(|(name, ended)| ended.is_set().then_some(*name))
}

fn on_machines(cluster: &Cluster, settings: &Settings) -> Result<(), Error> {
    let mark = cluster.mark(CONTROL_PLANE_PART.to_owned());
    let pause = tools::PAUSE.built()?.join("pause");
    let control_plane = Machine::boot(&mark, &pause, &cluster.folder().join("unused"))?;
    network::make_bridge(&control_plane)?;
    let start = |service: &Service| {
        Ok::<_, Error>((service.name, control_plane.start(service, &settings.logs())?))
    };
    let mut started = Vec::new();
    for service in settings.services() {
        started.push(start(&service)?);
    }
    prepare_nodes(cluster)?;
    settings.wait_ready(
        |command| {
            // Were it gone, the command would fail, and so be noticed.
            let _ = control_plane.enter_network(command);
        },
        || ended(&started),
    )?;
    for service in control_plane_extras(cluster, settings)? {
        started.push(start(&service)?);
    }
    let numbers = 1..=cluster.nodes();
    numbers.clone().try_for_each(|number| start_node(cluster, number))?;
    let since = SystemTime::UNIX_EPOCH;
    numbers.into_iter().try_for_each(|number| wait_ready(cluster, number, since))
}

/// Machines with a containerd that has the sandbox image, side by side: they wait for disks more than they compute.
fn prepare_nodes(cluster: &Cluster) -> Result<(), Error> {
    let tar = cluster.folder().join("pause.tar");
    pause_image()?.write(&tar)?;
    thread::scope(|scope| {
        let nodes: Vec<_> = (1..=cluster.nodes())
            .map(|number| scope.spawn(move || boot_node(cluster, number)))
            .collect();
        nodes.into_iter().try_for_each(|node| match node.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    cluster.load(&tar)
}

fn pause_image() -> Result<Image, Error> {
    let program = tools::PAUSE.built()?.join("pause");
    let layer = image::Layer::default().file("pause", &program, image::PROGRAM)?;
    Ok(Image {
        reference: node::PAUSE_IMAGE.to_owned(),
        layers: vec![layer],
        entrypoint: vec!["/pause".to_owned()],
        environment: Vec::new(),
        labels: Vec::new(),
    })
}

/// A plugged-in machine with containerd running.
pub fn boot_node(cluster: &Cluster, number: u8) -> Result<(), Error> {
    let node = cluster.node(number)?;
    node.prepare().map_err(|(path, source)| file("writing", &path)(source))?;
    let mark = cluster.mark(node::name(number));
    let pause = tools::PAUSE.built()?.join("pause");
    let machine = Machine::boot(&mark, &pause, &node.kubelet_folder())?;
    network::plug(&cluster.control_plane()?, &machine, number, cluster.nodes())?;
    let ended = machine.start(&node.runtime(), &node.logs())?;
    let socket = machine.path(node::SOCKET);
    let there = wait::until(SOCKET_TIMEOUT, || {
        if ended.is_set() { Err(ended_early(&node)) } else { Ok(socket.exists().then_some(())) }
    })?;
    there.ok_or_else(|| too_late("containerd's socket", SOCKET_TIMEOUT, &node))
}

fn ended_early(node: &Node) -> Error {
    let doing = format!("containerd on {}", node::name(node.number));
    Error::Refused { doing, said: service::log_tail(&node.logs(), "containerd") }
}

fn too_late(what: &str, limit: Duration, node: &Node) -> Error {
    let what = format!("{what} of {}", node::name(node.number));
    Error::TooLate { what, seconds: limit.as_secs(), logs: node.logs() }
}

/// kubelet and kube-proxy. They need containerd and an API server.
pub fn start_node(cluster: &Cluster, number: u8) -> Result<(), Error> {
    let (node, machine) = (cluster.node(number)?, cluster.machine(number)?);
    for service in [node.kubelet(), node.proxy()] {
        machine.start(&service, &node.logs())?;
    }
    Ok(())
}

/// Waits until a node that was started at `since` says that it is ready, and gives it its pretended GPUs: kubelet takes
/// them away at its start.
pub fn wait_ready(cluster: &Cluster, number: u8, since: SystemTime) -> Result<(), Error> {
    let node = cluster.node(number)?;
    let ready = wait::until(READY_TIMEOUT, || {
        let query =
            "{range .status.conditions[?(@.type==\"Ready\")]}{.status} {.lastHeartbeatTime}{end}";
        let output = format!("--output=jsonpath={query}");
        let said = kubectl(cluster)?.args(["get", "node", &node::name(number), &output]).output();
        let said = said.map_err(file("starting", &node.hyperkube))?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        Ok::<_, Error>(is_ready(&text, since).then_some(()))
    })?;
    ready.ok_or_else(|| too_late("readiness", READY_TIMEOUT, &node))?;
    set_gpus(cluster, number)
}

/// `True 2026-01-31T12:00:00Z`, and not from before `since`: a node that lost power is called ready for a while.
fn is_ready(said: &str, since: SystemTime) -> bool {
    let Some(("True", heartbeat)) = said.split_once(' ') else { return false };
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    crate::time::parse(heartbeat).is_some_and(|heartbeat| heartbeat >= since)
}

fn set_gpus(cluster: &Cluster, number: u8) -> Result<(), Error> {
    let gpus = cluster.record.gpus;
    if gpus == 0 {
        return Ok(());
    }
    let patch =
        format!(r#"[{{"op":"add","path":"/status/capacity/nvidia.com~1gpu","value":"{gpus}"}}]"#);
    let mut command = kubectl(cluster)?;
    command.args(["patch", "node", &node::name(number), "--subresource=status", "--type=json"]);
    cluster.passed(command.args(["--patch", &patch]), "giving a node its GPUs").map(drop)
}

/// kubectl where it reaches the API server.
pub fn kubectl(cluster: &Cluster) -> Result<Command, Error> {
    let mut command = cluster.settings()?.kubectl();
    if cluster.nodes() > 0 {
        cluster.control_plane()?.enter_network(&mut command)?;
    }
    Ok(command)
}

/// Names, and Services' addresses for what runs beside the API server.
fn control_plane_extras(cluster: &Cluster, settings: &Settings) -> Result<[Service; 2], Error> {
    let folder = cluster.folder();
    let (names, proxy) = (folder.join("Corefile"), folder.join("proxy.yaml"));
    let files = [
        (&names, node::names_configuration(&cluster.kubeconfig())),
        (&proxy, node::proxy_configuration(1, &settings.credentials())),
        (&folder.join("resolv.conf"), node::resolver("default")),
    ];
    for (path, content) in files {
        fs::write(path, content).map_err(file("writing", path))?;
    }
    let coredns = Service {
        name: "coredns",
        program: tools::COREDNS.built()?.join("coredns"),
        arguments: vec!["-conf".to_owned(), names.display().to_string()],
    };
    Ok([coredns, node::proxy(&settings.hyperkube, &proxy)])
}
