//! `cargo xtask cluster`: the commands, and what they print. The cluster itself is the crate `cluster`.

use crate::images;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use cluster::{Cluster, Name, Options};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Shells give a command that a signal ended this much more than the signal's number.
const SIGNALLED: i32 = 128;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster and wait until its nodes are ready (about 15 s; the first time builds Kubernetes, 15 minutes).
    ///
    /// Each node is a set of namespaces with its own containerd, kubelet and kube-proxy. Nothing inside reaches the
    /// world outside, and nothing outside reaches in but `cargo xtask cluster run`.
    Up(Up),
    /// Put images, tar files in OCI's layout, into every node.
    Load {
        #[command(flatten)]
        which: Which,
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<PathBuf>,
    },
    /// Run a command that reaches Services and knows their names; kubectl and helm are on its PATH.
    ///
    /// The exit code is the command's.
    Run {
        #[command(flatten)]
        which: Which,
        #[arg(required = true, last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Do something to a node.
    Node {
        action: NodeAction,
        /// Its number, from 1.
        number: u8,
        #[command(flatten)]
        which: Which,
    },
    /// Do something to a pod.
    #[command(subcommand)]
    Pod(PodCommand),
    /// End a cluster and remove all of it, whatever state it is in.
    Down(Which),
    /// Show the clusters of this machine.
    List,
}

#[derive(Debug, Args)]
pub struct Which {
    /// The cluster's name.
    #[arg(long, default_value = "boyle")]
    name: String,
}

#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    which: Which,
    /// How many nodes; 0 is a control plane only, on this machine's loopback, and needs no root.
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// How many GPUs of kind nvidia.com/gpu each node pretends to have.
    #[arg(long, default_value_t = 8)]
    gpus: u32,
    /// Do not build Boyle's images and put them into the nodes.
    #[arg(long)]
    no_images: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum NodeAction {
    /// Take its power away: everything on it is gone at once, and its network before that.
    Poweroff,
    /// Start it again and wait until it is ready.
    Poweron,
    /// Pull its network cable.
    Cut,
    /// Put its network cable back.
    Join,
    /// Move its pods away, as before maintenance.
    Drain,
    /// Let pods come to it again.
    Uncordon,
}

#[derive(Debug, Subcommand)]
pub enum PodCommand {
    /// Send SIGKILL to the main process of a pod's first container.
    Kill {
        #[arg(value_name = "NAMESPACE/NAME")]
        pod: String,
        #[command(flatten)]
        which: Which,
    },
}

impl Which {
    fn parsed(&self) -> Result<Name> {
        Ok(Name::parse(&self.name)?)
    }

    fn open(&self) -> Result<Cluster> {
        Ok(Cluster::open(&self.parsed()?)?)
    }
}

/// Runs a command.
///
/// # Errors
/// What went wrong, for people.
pub fn run(workspace: &Workspace, command: &Command) -> Result<ExitCode> {
    match command {
        Command::Up(up) => start(workspace, up)?,
        Command::Load { which, images } => {
            let cluster = which.open()?;
            images.iter().try_for_each(|image| cluster.load(image))?;
        }
        Command::Run { which, command } => return inside(&which.open()?, command),
        Command::Node { action, number, which } => node(&which.open()?, *action, *number)?,
        Command::Pod(PodCommand::Kill { pod, which }) => {
            let (namespace, name) =
                pod.split_once('/').context("write the pod as NAMESPACE/NAME")?;
            which.open()?.kill_pod(namespace, name)?;
        }
        Command::Down(which) => {
            let was_there = Cluster::down(&which.parsed()?)?;
            println!(
                "cluster {} {}",
                which.name,
                if was_there { "is gone" } else { "was not there" }
            );
        }
        Command::List => list()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn start(workspace: &Workspace, up: &Up) -> Result<()> {
    let name = up.which.parsed()?;
    let wanted = up.nodes > 0 && !up.no_images;
    let images = if wanted { images::make_all(workspace)? } else { Vec::new() };
    let started = Instant::now();
    let cluster = Cluster::up(&Options { name, nodes: up.nodes, gpus: up.gpus })?;
    println!("cluster {} is ready after {:.1} s", cluster.name(), started.elapsed().as_secs_f32());
    for image in &images {
        cluster.load(&image.tar)?;
        println!("every node has {}", image.reference);
    }
    let named = match up.which.name.as_str() {
        "boyle" => String::new(),
        other => format!(" --name {other}"),
    };
    println!("\n{}", next_steps(&cluster, &named, &images));
    Ok(())
}

/// What to type next.
fn next_steps(cluster: &Cluster, named: &str, images: &[images::Made]) -> String {
    let run = format!("cargo xtask cluster run{named} --");
    let mut lines = vec!["next:".to_owned()];
    if cluster.nodes() == 0 {
        lines.push(format!("  export KUBECONFIG={}", cluster.kubeconfig().display()));
    }
    lines.push(format!("  {run} kubectl get nodes"));
    if !images.is_empty() {
        lines.push(format!(
            "  {run} helm install boyle charts/boyle --namespace boyle-system --create-namespace --wait"
        ));
        lines.push(format!("  {run} kubectl apply --filename MODEL.yaml"));
        lines.push(format!("  {run} curl http://NAME.NAMESPACE.svc/v1/models"));
    }
    lines.push(format!("  cargo xtask cluster down{named}"));
    lines.join("\n")
}

fn inside(cluster: &Cluster, words: &[OsString]) -> Result<ExitCode> {
    let (program, arguments) = words.split_first().context("no command")?;
    let mut command = cluster.command(program)?;
    let status = command
        .args(arguments)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn node(cluster: &Cluster, action: NodeAction, number: u8) -> Result<()> {
    match action {
        NodeAction::Poweroff => cluster.power_off(number)?,
        NodeAction::Poweron => cluster.power_on(number)?,
        NodeAction::Cut => cluster.cut(number)?,
        NodeAction::Join => cluster.join(number)?,
        NodeAction::Drain => cluster.drain(number)?,
        NodeAction::Uncordon => cluster.uncordon(number)?,
    }
    Ok(())
}

fn list() -> Result<()> {
    println!("{:<22}{:>5}  running", "name", "nodes");
    for summary in Cluster::list()? {
        let running = if summary.running.is_empty() {
            "nothing".to_owned()
        } else {
            summary.running.join(" ")
        };
        println!("{:<22}{:>5}  {running}", summary.name.to_string(), summary.nodes);
    }
    Ok(())
}
