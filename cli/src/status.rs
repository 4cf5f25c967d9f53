//! `boyle status`: what runs on this machine.

use crate::arguments::StatusArguments;
use crate::output;
use crate::state::{DeploymentDirectory, Holder, StateRoot};
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;
use substrate::status::AgentDetail;
use substrate::{DeploymentStatus, Phase};

/// One deployment that runs.
struct Entry {
    name: String,
    holder: Holder,
    logs: String,
    status: Option<DeploymentStatus>,
    age: Option<Duration>,
}

/// A status is written at least every second, unless a call to an agent hangs; an older one says nothing.
const AGE_MAX: Duration = Duration::from_secs(10);

/// Prints the status of every deployment that runs; exits with 1 when none does.
///
/// # Errors
/// When the state directory cannot be read.
pub fn run(arguments: &StatusArguments) -> anyhow::Result<ExitCode> {
    let root = StateRoot::resolve(arguments.state.state_directory.as_deref())?;
    let mut entries = Vec::new();
    for directory in root.deployments()? {
        entries.extend(entry(&directory)?);
    }
    if entries.is_empty() {
        note_line!(
            "Nothing runs (looked in {}). Start the embedded model with `boyle up`, or just ask it with \
             `boyle chat`.",
            root.path().display()
        );
    } else if arguments.json {
        for entry in &entries {
            print_line!("{}", to_json(entry)?);
        }
    } else {
        let texts: Vec<String> = entries.iter().map(to_text).collect();
        output::print(&texts.join("\n"));
    }
    Ok(if entries.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn entry(directory: &DeploymentDirectory) -> anyhow::Result<Option<Entry>> {
    let Some(holder) = directory.running()? else { return Ok(None) };
    Ok(Some(Entry {
        name: directory.name().to_owned(),
        holder,
        logs: directory.logs().display().to_string(),
        status: directory.read("status.json")?,
        age: directory.age("status.json"),
    }))
}

/// The status with what only this command knows beside it.
fn to_json(entry: &Entry) -> anyhow::Result<serde_json::Value> {
    let Entry { name, holder, logs, status, age } = entry;
    let mut object = match status {
        Some(status) => serde_json::to_value(status)?,
        None => json!({"phase": Phase::Pending}),
    };
    let pid = match holder {
        Holder::Known(running) => Some(running.pid),
        Holder::Unknown => None,
    };
    if let Some(object) = object.as_object_mut() {
        object.extend([
            ("name".to_owned(), json!(name)),
            ("pid".to_owned(), json!(pid)),
            ("logs".to_owned(), json!(logs)),
            ("ageSeconds".to_owned(), json!(age.map(|age| age.as_secs()))),
        ]);
    }
    Ok(object)
}

fn to_text(entry: &Entry) -> String {
    let Entry { name, holder, logs, status, age } = entry;
    let Some(status) = status else { return format!("{name}: {holder}\n") };
    let mut text = format!("{name}: {}", status.phase);
    let url = status.url.as_ref().map(|url| format!(" at {url}")).unwrap_or_default();
    let generation = status.plan.generation.map_or("none".to_owned(), |g| g.0.to_string());
    let (agents, experts) = (status.agents, status.experts);
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        text,
        "{url} ({holder})
  plan      {generation}
  agents    {} of {} ready
  experts   {} placed, {} missing, {} of {} copies in memory
  speed     {:.1} tokens/s
  logs      {logs}
",
        agents.ready,
        agents.desired,
        experts.placed,
        experts.missing,
        experts.copies,
        experts.copies_planned,
        status.tokens_per_second,
    );
    for agent in &status.agent_details {
        text.push_str(&agent_text(agent));
    }
    for reason in &status.reasons {
        let _ = writeln!(text, "  ! {reason}");
    }
    if let Some(age) = age.filter(|age| *age > AGE_MAX) {
        let seconds = age.as_secs();
        let _ = writeln!(text, "  ! this is {seconds} s old; the process that runs it may hang");
    }
    text
}

fn agent_text(agent: &AgentDetail) -> String {
    let instance = agent.instance.as_ref().map(|instance| format!(", {instance}"));
    let address = agent.address.as_ref().map(|address| format!(", {address}"));
    let mut text = format!(
        "  {}: {}{}{}, {} running, {} waiting, {:.1} tokens/s",
        agent.agent,
        agent.condition,
        instance.unwrap_or_default(),
        address.unwrap_or_default(),
        agent.sequences_running,
        agent.sequences_waiting,
        agent.tokens_per_second,
    );
    if !agent.kernel_path.is_empty() {
        let _ = write!(text, ", {}", agent.kernel_path);
    }
    text.push('\n');
    for (layer, experts) in &agent.resident {
        let _ = writeln!(text, "    layer {layer}: {}", ranges(experts));
    }
    text
}

/// `[0, 1, 2, 3, 7]` → `0-3,7`. The numbers are ascending.
pub fn ranges(numbers: &[u32]) -> String {
    let mut text = String::new();
    let mut rest = numbers.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if(|&next| last.checked_add(1) == Some(next)) {
            last = next;
        }
        if !text.is_empty() {
            text.push(',');
        }
        let _ = write!(text, "{first}");
        if last > first {
            let _ = write!(text, "-{last}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn ranges_are_compact() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[4]), "4");
        assert_eq!(ranges(&[0, 1, 2, 3, 4, 7]), "0-4,7");
        assert_eq!(ranges(&[1, 3, 4, 9]), "1,3-4,9");
    }
}
