//! A control plane without nodes, which ends with its owner.

use crate::again;
use cluster::ControlPlane;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

fn stdout(plane: &ControlPlane, arguments: &[&str]) -> String {
    let output = plane.kubectl(arguments.iter().copied()).expect("kubectl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn two_stand_side_by_side_and_leave_nothing() {
    let (first, second) = (ControlPlane::start().unwrap(), ControlPlane::start().unwrap());
    stdout(&first, &["create", "configmap", "only-here"]);
    assert!(stdout(&first, &["get", "configmaps", "--output=name"]).contains("only-here"));
    assert!(!stdout(&second, &["get", "configmaps", "--output=name"]).contains("only-here"));
    let folders = [&first, &second].map(|plane| plane.logs().parent().unwrap().to_owned());
    drop((first, second));
    for folder in folders {
        assert!(!folder.exists(), "{}", folder.display());
    }
}

#[test]
fn pods_that_break_the_restricted_standard_are_refused() {
    let plane = ControlPlane::start().unwrap();
    stdout(
        &plane,
        &["label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted"],
    );
    let output = plane.kubectl(["run", "root", "--image=any", "--privileged"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("violates PodSecurity"), "{said}");
}

/// Tells where its control plane is and waits for its end.
#[test]
#[ignore = "the process that the next test kills"]
fn owner() {
    let plane = ControlPlane::start().unwrap();
    println!("kubeconfig {}", plane.kubeconfig().display());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn the_kernel_ends_it_with_its_owner() {
    let mut owner = again::start("control_plane::owner", ("UNUSED", ""));
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let path = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("kubeconfig ").map(str::to_owned))
        .expect("it says where");
    let folder = Path::new(&path).ancestors().nth(2).unwrap();
    owner.kill().unwrap();
    owner.wait().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while processes_of(folder) > 0 {
        assert!(std::time::Instant::now() < deadline, "processes of {path} outlive their owner");
        std::thread::yield_now();
    }
    // The next one to start removes what the killed one left.
    drop(ControlPlane::start().unwrap());
    assert!(!folder.exists(), "{}", folder.display());
}

/// How many processes name the folder in their arguments.
fn processes_of(folder: &Path) -> usize {
    let folder = folder.to_str().expect("UTF-8");
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let commands = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    commands.filter(|command| String::from_utf8_lossy(command).contains(folder)).count()
}
