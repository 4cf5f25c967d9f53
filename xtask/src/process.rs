//! Running other programs.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How often a program with a deadline is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The command as a person would type it, without the environment.
pub fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    // Cargo runs us by its full path; people type the name.
    let program = if program.ends_with("/cargo") { "cargo".into() } else { program };
    let words = command.get_args().map(|word| quoted(&word.to_string_lossy()));
    std::iter::once(program.into_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    if word.contains([' ', '*', '$']) { format!("'{word}'") } else { word.to_owned() }
}

/// Runs a command to its end and returns what it printed on stdout.
///
/// # Errors
/// When it cannot start, fails (its stderr is in the message), or prints no UTF-8.
pub fn output(command: &mut Command) -> Result<String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !done.status.success() {
        let stderr = String::from_utf8_lossy(&done.stderr);
        bail!("`{}` failed ({}):\n{}", shown(command), done.status, stderr.trim_end());
    }
    String::from_utf8(done.stdout)
        .with_context(|| format!("`{}` printed bytes that are no UTF-8", shown(command)))
}

/// Runs a command to its end; its output goes to ours.
///
/// # Errors
/// When it cannot start or fails.
pub fn passed(command: &mut Command) -> Result<()> {
    watched(command, |_| ())
}

/// As [`passed`], and shows each line of stdout to `observe` on its way.
///
/// # Errors
/// When it cannot start or fails.
pub fn watched(command: &mut Command, mut observe: impl FnMut(&str)) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let bytes = line.context("reading a program's output")?;
            let line = String::from_utf8_lossy(&bytes);
            println!("{line}");
            observe(&line);
        }
    }
    finish(&mut child, command)
}

/// As [`passed`], but kills the program when it takes longer than `limit`.
///
/// # Errors
/// When it cannot start, fails, or takes too long.
pub fn passed_within(limit: Duration, command: &mut Command) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    let started = Instant::now();
    while child.try_wait()?.is_none() {
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("`{}` took longer than {} s", shown(command), limit.as_secs());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    finish(&mut child, command)
}

fn finish(child: &mut Child, command: &Command) -> Result<()> {
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}
