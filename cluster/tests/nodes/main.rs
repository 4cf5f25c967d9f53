//! A cluster with three nodes: what a person does to it, and what must then be so. Needs root and Debian packages, and
//! fails with what to install where they are missing; `cargo xtask e2e` runs it.

mod scenario;

use anyhow::{Result, ensure};
use cluster::image::{Image, Layer, PROGRAM};
use cluster::{Cluster, Name, Options, tools};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Loading three nodes and starting pods on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// The image of the test's pods.
const PROBE: &str = "boyle.local/probe:1";

/// A cluster that is ended with the test, also when it fails.
struct Ending(Cluster);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Err(error) = Cluster::down(self.0.name()) {
            eprintln!("ending cluster {}: {error}", self.0.name());
        }
    }
}

fn up(name: &str, nodes: u8) -> Result<Ending> {
    let name = Name::parse(name)?;
    // What an earlier run left when it was killed.
    Cluster::down(&name)?;
    Ok(Ending(Cluster::up(&Options { name, nodes, gpus: 8 })?))
}

/// Looks until `look` holds, and fails with `what` and the last look's words.
fn wait_for(what: &str, mut look: impl FnMut() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    loop {
        match look() {
            Ok(()) => return Ok(()),
            Err(error) if started.elapsed() > PATIENCE => {
                return Err(error.context(what.to_owned()));
            }
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}

fn probe() -> Result<PathBuf> {
    Ok(tools::PROBE.built()?.join("probe"))
}

fn probe_image(folder: &Path) -> Result<PathBuf> {
    let image = Image {
        reference: PROBE.to_owned(),
        layers: vec![Layer::default().file("probe", &probe()?, PROGRAM)?],
        entrypoint: vec!["/probe".to_owned(), "serve".to_owned()],
        environment: Vec::new(),
        labels: Vec::new(),
    };
    let path = folder.join("probe.tar");
    image.write(&path)?;
    Ok(path)
}

/// A cluster comes up until it is killed.
#[test]
#[ignore = "the process that the next test kills"]
fn up_to_be_killed() -> Result<()> {
    up("killed-test", 1).map(std::mem::forget)
}

#[test]
fn down_removes_what_a_killed_up_left() -> Result<()> {
    let name = Name::parse("killed-test")?;
    for moment in ["logs/etcd.log", "node1/logs/containerd.log", "node1/logs/kubelet.log"] {
        Cluster::down(&name)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", "up_to_be_killed", "--ignored"]).stdin(Stdio::null());
        let mut up = command.spawn()?;
        wait_for(moment, || {
            ensure!(up.try_wait()?.is_none(), "up ended before {moment}");
            ensure!(name.folder().join(moment).exists(), "no {moment}");
            Ok(())
        })?;
        up.kill()?;
        up.wait()?;
        assert!(Cluster::down(&name)?, "{moment}");
        assert!(!name.folder().exists(), "{moment}");
        assert!(!Cluster::down(&name)?, "{moment}");
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        assert!(!mounts.contains(&name.folder().display().to_string()), "{moment}: {mounts}");
    }
    Ok(())
}
