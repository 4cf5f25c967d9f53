//! This test program once more, as a process that a test can kill.

use std::process::{Child, Command, Stdio};

/// Starts the ignored test `name` as a process of its own. What `variable` holds is for it.
pub fn start(name: &str, variable: (&str, &str)) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("a test program"));
    command.args(["--exact", name, "--ignored", "--nocapture"]).env(variable.0, variable.1);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts")
}
