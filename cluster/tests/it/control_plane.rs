//! A control plane without nodes.

use cluster::ControlPlane;

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
