//! Named clusters without nodes: up, a second beside it, down after anything.

use crate::again;
use cluster::{Cluster, Name, Options};
use std::path::Path;
use std::time::{Duration, Instant};

/// Where the process that is killed puts its cluster.
const FOLDER: &str = "BOYLE_TEST_CLUSTERS";

fn options(folder: &Path, name: &str) -> Options {
    Options { name: Name::parse_in(folder, name).expect("a name"), nodes: 0, gpus: 0 }
}

#[test]
fn a_cluster_is_found_by_its_name_until_it_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (options(folder.path(), "first"), options(folder.path(), "second"));
    let error = Cluster::open(&first.name).unwrap_err().to_string();
    assert!(
        error.contains("no cluster first") && error.contains("cluster up --name first"),
        "{error}"
    );
    Cluster::up(&first).unwrap();
    let error = Cluster::up(&first).unwrap_err().to_string();
    assert!(
        error.contains("first exists") && error.contains("cluster down --name first"),
        "{error}"
    );
    Cluster::up(&second).unwrap();
    let cluster = Cluster::open(&first.name).unwrap();
    cluster.kubectl(["create", "configmap", "only-here"]).unwrap();
    let maps = Cluster::open(&second.name).unwrap().kubectl(["get", "configmaps", "--output=name"]);
    assert!(!maps.unwrap().contains("only-here"));
    let output = cluster.command("kubectl").unwrap().args(["get", "configmaps"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("only-here"), "{output:?}");
    for Options { name, .. } in [&first, &second] {
        assert!(Cluster::down(name).unwrap());
        assert!(!Cluster::down(name).unwrap() && !name.folder().exists());
    }
}

/// Brings a cluster up until it is killed.
#[test]
#[ignore = "the process that the next test kills"]
fn up() {
    let folder = std::env::var_os(FOLDER).unwrap();
    Cluster::up(&options(Path::new(&folder), "killed")).unwrap();
}

#[test]
fn down_removes_what_a_killed_up_left() {
    for moment in ["cluster.json", "logs/etcd.log", "logs/scheduler.log"] {
        let folder = tempfile::tempdir().unwrap();
        let name = options(folder.path(), "killed").name;
        let mut up = again::start("named::up", (FOLDER, folder.path().to_str().unwrap()));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !name.folder().join(moment).exists() {
            assert!(Instant::now() < deadline && up.try_wait().unwrap().is_none(), "no {moment}");
            std::thread::yield_now();
        }
        up.kill().unwrap();
        up.wait().unwrap();
        assert!(Cluster::down(&name).unwrap(), "{moment}");
        assert!(!name.folder().exists(), "{moment}");
        Cluster::up(&options(folder.path(), "killed")).unwrap();
        assert!(Cluster::down(&name).unwrap(), "{moment}");
    }
}

#[test]
fn names_that_could_be_anything_else_are_refused() {
    for name in ["", "-a", "1a", "A", "a/b", "a_b", "../a", "ä", "a23456789012345678901"] {
        let error = Name::parse_in(Path::new("/tmp"), name).unwrap_err().to_string();
        assert!(error.contains(&format!("{name:?}")) && error.contains("a-z"), "{error}");
    }
    for name in ["a", "boyle", "e2e-2", "a2345678901234567890"] {
        assert_eq!(Name::parse_in(Path::new("/tmp"), name).unwrap().as_str(), name);
    }
}
