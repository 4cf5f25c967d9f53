//! One cluster, from its first pod to its end: starting one for each thing would take longer than all of them.

use crate::{Ending, PROBE, probe, probe_image, up, wait_for};
use anyhow::{Result, bail, ensure};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Longer than any answer on one machine, and than the probe's own patience.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A pod of the probe on each node, all behind one Service; an image's files are at /volume.
fn manifest(number: u8) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "Pod",
  "metadata": {{"name": "probe{number}", "labels": {{"app": "probe"}}}},
  "spec": {{"nodeName": "node{number}", "terminationGracePeriodSeconds": 0,
    "tolerations": [{{"operator": "Exists"}}],
    "containers": [{{"name": "probe", "image": "{PROBE}",
      "securityContext": {{"runAsNonRoot": true, "readOnlyRootFilesystem": true}},
      "volumeMounts": [{{"name": "files", "mountPath": "/volume"}}]}}],
    "volumes": [{{"name": "files", "image": {{"reference": "{PROBE}"}}}}]}}}}"#
    )
}

const SERVICE: &str = r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "probe"},
  "spec": {"selector": {"app": "probe"}, "ports": [{"port": 80, "targetPort": 8080}]}}"#;

impl Ending {
    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.0.kubectl(arguments.iter().copied())?)
    }

    fn apply(&self, folder: &Path, manifest: &str) -> Result<()> {
        let path = folder.join("manifest.json");
        std::fs::write(&path, manifest)?;
        self.kubectl(&["apply", "--filename", &path.display().to_string()]).map(drop)
    }

    /// What the probe on a node answers, through the API server.
    fn ask(&self, number: u8, query: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/default/pods/probe{number}:8080/proxy/{query}");
        Ok(self.kubectl(&["get", "--request-timeout=5s", "--raw", &path])?.trim().to_owned())
    }

    fn fetch(&self, from: u8, url: &str) -> Result<String> {
        self.ask(from, &format!("fetch?url={url}"))
    }

    fn address(&self, number: u8) -> Result<String> {
        let name = format!("probe{number}");
        self.kubectl(&["get", "pod", &name, "--output=jsonpath={.status.podIP}"])
    }

    /// Waits until the pod on a node answers.
    fn answers(&self, number: u8) -> Result<()> {
        wait_for(&format!("probe{number} answers"), || {
            let name = self.ask(number, "")?;
            ensure!(name == format!("probe{number}"), "{name}");
            Ok(())
        })
    }

    fn restarts(&self, number: u8) -> Result<String> {
        let query = "--output=jsonpath={.status.containerStatuses[0].restartCount}";
        self.kubectl(&["get", "pod", &format!("probe{number}"), query])
    }
}

#[test]
fn three_nodes_are_a_cluster() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cluster = up("nodes-test", 3)?;
    cluster.0.load(&probe_image(folder.path())?)?;
    cluster.apply(folder.path(), SERVICE)?;
    (1..=3).try_for_each(|number| cluster.apply(folder.path(), &manifest(number)))?;
    (1..=3).try_for_each(|number| cluster.answers(number))?;
    pods_reach_each_other(&cluster)?;
    people_reach_pods(&cluster)?;
    let gpus = "--output=jsonpath={.items[*].status.allocatable.nvidia\\.com/gpu}";
    assert_eq!(cluster.kubectl(&["get", "nodes", gpus])?, "8 8 8");
    a_killed_pod_comes_back(&cluster)?;
    a_cut_node_is_alone_until_it_is_joined(&cluster)?;
    a_node_without_power_is_gone_until_it_has_it(&cluster)?;
    assert_eq!(cluster.kubectl(&["get", "nodes", gpus])?, "8 8 8", "after a power-off");
    a_drained_node_has_no_pods(&cluster)
}

fn pods_reach_each_other(cluster: &Ending) -> Result<()> {
    for from in 1..=3 {
        for to in 1..=3 {
            let url = format!("http://{}:8080/", cluster.address(to)?);
            assert_eq!(cluster.fetch(from, &url)?, format!("probe{to}"), "from {from}");
        }
        for name in ["probe", "probe.default.svc", "probe.default.svc.cluster.local"] {
            wait_for(name, || cluster.fetch(from, &format!("http://{name}/")).map(drop))?;
        }
        let files = cluster.ask(from, "list?folder=/volume")?;
        assert!(files.contains("probe"), "image volume: {files}");
    }
    Ok(())
}

fn people_reach_pods(cluster: &Ending) -> Result<()> {
    let mut command = cluster.0.command(probe()?)?;
    let output = command.args(["fetch", "http://probe.default.svc/"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("probe"), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(cluster.0.command("false")?.status()?.code(), Some(1));
    let address: SocketAddr = format!("{}:8080", cluster.address(2)?).parse()?;
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| cluster.0.join_network().map(|()| answer(&address)));
        let said = inside.join().map(|outcome| outcome.map(Result::ok));
        assert!(matches!(&said, Ok(Ok(Some(text))) if text.contains("probe2")), "inside: {said:?}");
    });
    // Something else may have the same address out there.
    let outside = answer(&address).unwrap_or_default();
    assert!(!outside.contains("probe2"), "outside: {outside}");
    Ok(())
}

/// What is behind an address, in HTTP.
fn answer(address: &SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn a_killed_pod_comes_back(cluster: &Ending) -> Result<()> {
    assert_eq!(cluster.restarts(1)?, "0");
    cluster.0.kill_pod("default", "probe1")?;
    wait_for("a restart", || {
        let restarts = cluster.restarts(1)?;
        ensure!(restarts == "1", "{restarts} restarts");
        Ok(())
    })?;
    cluster.answers(1)?;
    let error = refused(cluster.0.kill_pod("default", "nobody"))?;
    assert!(error.contains("nobody"), "{error}");
    Ok(())
}

fn a_cut_node_is_alone_until_it_is_joined(cluster: &Ending) -> Result<()> {
    let url = format!("http://{}:8080/", cluster.address(2)?);
    cluster.0.cut(2)?;
    assert!(cluster.fetch(1, &url).is_err());
    cluster.0.join(2)?;
    wait_for("the joined node answers", || cluster.fetch(1, &url).map(drop))?;
    assert_eq!(cluster.restarts(2)?, "0");
    let error = refused(cluster.0.cut(4))?;
    assert!(error.contains("no node 4") && error.contains("has 3"), "{error}");
    Ok(())
}

fn a_node_without_power_is_gone_until_it_has_it(cluster: &Ending) -> Result<()> {
    let url = format!("http://{}:8080/", cluster.address(3)?);
    cluster.0.power_off(3)?;
    assert!(cluster.fetch(1, &url).is_err());
    let error = refused(cluster.0.power_off(3))?;
    assert!(error.contains("not running"), "{error}");
    cluster.0.power_on(3)?;
    let error = refused(cluster.0.power_on(3))?;
    assert!(error.contains("it is running"), "{error}");
    cluster.answers(3)?;
    assert_ne!(cluster.restarts(3)?, "0");
    Ok(())
}

fn a_drained_node_has_no_pods(cluster: &Ending) -> Result<()> {
    cluster.0.drain(1)?;
    let query = "--output=jsonpath={.items[*].metadata.name}";
    let pods = cluster.kubectl(&["get", "pods", "--field-selector=spec.nodeName=node1", query])?;
    assert_eq!(pods, "");
    cluster.0.uncordon(1)?;
    let query = "--output=jsonpath={.spec.unschedulable}";
    assert_eq!(cluster.kubectl(&["get", "node", "node1", query])?, "");
    Ok(())
}

/// The whole chain of an error that must be.
fn refused(outcome: Result<(), cluster::Error>) -> Result<String> {
    match outcome {
        Ok(()) => bail!("this should have been refused"),
        Err(error) => Ok(format!("{:#}", anyhow::Error::from(error))),
    }
}
