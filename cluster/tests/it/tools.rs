//! Programs that are built once.

use cluster::tools;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn keys_differ_and_stay() {
    let modules = tools::ALL.iter().chain([&&tools::PROBE]);
    let keys: BTreeSet<_> = modules.clone().map(|module| module.key()).collect();
    assert_eq!(keys.len(), modules.count());
    assert_eq!(
        keys,
        tools::ALL.iter().chain([&&tools::PROBE]).map(|module| module.key()).collect()
    );
}

#[test]
fn kubernetes_says_the_version_that_is_pinned() {
    let modules =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/go/hyperkube/go.mod"));
    let pinned = format!("k8s.io/kubernetes v{}", tools::KUBERNETES_VERSION);
    assert!(modules.unwrap().contains(&pinned), "go.mod lacks {pinned}");
    let kubectl = tools::HYPERKUBE.built().unwrap().join("hyperkube");
    let output =
        std::process::Command::new(kubectl).args(["kubectl", "version", "--client"]).output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(said.contains(&format!("v{}", tools::KUBERNETES_VERSION)), "{said}");
}

#[test]
fn two_builds_at_once_make_one_folder() {
    let cache = tempfile::tempdir().unwrap();
    let build = || tools::PAUSE.built_in(cache.path()).unwrap();
    let (one, other) = std::thread::scope(|scope| {
        let (one, other) = (scope.spawn(build), scope.spawn(build));
        (one.join().unwrap(), other.join().unwrap())
    });
    assert_eq!(one, other);
    let mode = std::fs::metadata(one.join("pause")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    assert!(!cache.path().join("pause.unfinished").exists());
}
