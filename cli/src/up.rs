//! `boyle up`: a ModelDeployment as processes on this machine.

use crate::arguments::UpArguments;
use crate::local::LocalDeployment;
use crate::progress::{Progress, until_available};
use crate::resolve::Resolved;
use crate::signals::{Ending, Signals};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use substrate::reason::Reason;
use substrate::{DeploymentStatus, Phase};
use tokio::sync::watch;

/// Runs until a signal comes or the deployment turns out to be unservable.
///
/// # Errors
/// Everything that keeps it from being served, with what to do about it.
pub async fn run(arguments: UpArguments) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let mut progress = Progress::new();
    let file = arguments.file.as_deref();
    let resolved = Resolved::new(file, &arguments.deployment)?;
    let lock = LocalDeployment::lock(&resolved)?;
    let about = About::new(&resolved, &arguments);
    progress.step(&format!("starting {}", about.name));
    let mut local = LocalDeployment::start(resolved, lock, arguments.port).await?;
    let mut statuses = local.statuses();
    let work = async {
        let url = tokio::select! {
            url = until_available(&mut statuses, &mut progress) => url?,
            ending = signals.next() => return Ok(ending.exit_code()),
        };
        about.announce(&url);
        tokio::select! {
            () = report_changes(&mut statuses) => {}
            Ending::Interrupt | Ending::Terminate = signals.next() => {}
        }
        anyhow::Ok(ExitCode::SUCCESS)
    };
    let result = local.drive(work).await;
    progress.finish();
    note_line!("boyle: stopping; Ctrl-C again kills at once");
    tokio::select! {
        stopped = local.stop() => stopped?,
        // Children die with this process.
        ending = signals.next() => return Ok(ending.exit_code()),
    }
    result
}

/// What is told when the model is available.
struct About {
    name: String,
    logs: String,
    pid: u32,
    format: Format,
}

enum Format {
    Text,
    Json,
}

impl About {
    fn new(resolved: &Resolved, arguments: &UpArguments) -> Self {
        let display = |path: &Path| path.display().to_string();
        Self {
            name: resolved.directory.name().to_owned(),
            logs: display(&resolved.directory.logs()),
            pid: std::process::id(),
            format: if arguments.json { Format::Json } else { Format::Text },
        }
    }

    fn announce(&self, url: &str) {
        let Self { name, logs, pid, format } = self;
        match format {
            Format::Json => print_line!(
                "{}",
                json!({"url": url, "model": name, "pid": pid, "logs": logs})
            ),
            Format::Text => print_line!(
                "\
{name} is available at {url}

  curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{{
    \"model\": \"{name}\", \"stream\": true, \"temperature\": 0,
    \"messages\": [{{\"role\": \"user\", \"content\": \"How many r\\u0027s are in strawberry?\"}}]}}'

Other terminals: boyle chat, boyle status. Logs: {logs}. Ctrl-C stops everything."
            ),
        }
    }
}

/// Tells people what goes wrong and when it is well again; never ends.
async fn report_changes(statuses: &mut watch::Receiver<DeploymentStatus>) {
    let mut phase = Phase::Available;
    let mut told: BTreeSet<String> = BTreeSet::new();
    // What holds from the start on is news too.
    statuses.mark_changed();
    while statuses.changed().await.is_ok() {
        let status = statuses.borrow_and_update().clone();
        let news = status.reasons.iter().filter(|reason| is_news(reason));
        let news: BTreeSet<String> = news.map(ToString::to_string).collect();
        for reason in news.difference(&told) {
            note_line!("boyle: {reason}");
        }
        if status.phase != phase {
            note_line!("boyle: {}", describe(&status));
        }
        (phase, told) = (status.phase, news);
    }
    std::future::pending::<()>().await;
}

fn describe(status: &DeploymentStatus) -> String {
    let agents = status.agents;
    let generation = status.plan.generation.map_or(0, |generation| generation.0);
    let counts = format!("{} of {} agents ready, plan {generation}", agents.ready, agents.desired);
    match status.phase {
        Phase::Available => format!("available again: {counts}"),
        Phase::Degraded => format!("degraded: {counts}"),
        Phase::Failed => format!("failed: {counts}"),
        Phase::Sleeping => "asleep; the next request wakes it".to_owned(),
        Phase::Pending | Phase::Loading => counts,
    }
}

/// Numbers that change all the time, and what follows from something that was told, are no news.
fn is_news(reason: &Reason) -> bool {
    match reason {
        Reason::AgentRestarting { .. }
        | Reason::AgentFailed { .. }
        | Reason::AgentUnstartable { .. }
        | Reason::AgentUnschedulable { .. }
        | Reason::AgentNeedsRestart { .. }
        | Reason::ModelsDiffer { .. }
        | Reason::AllSilent { .. }
        | Reason::ContextTooLong { .. }
        | Reason::RolloutStopped { .. }
        | Reason::AssignmentRefused { .. }
        | Reason::KernelPathsDiffer { .. }
        | Reason::ExpertsMissing { .. }
        | Reason::RouterStarting
        | Reason::RouterUnreachable { .. }
        | Reason::NoPlan { .. }
        | Reason::PlanFallsShort { .. }
        | Reason::SubstrateFailed { .. } => true,
        Reason::AgentStarting { .. }
        | Reason::AgentCrashLooping { .. }
        | Reason::AgentLeaving { .. }
        | Reason::AgentUnreachable { .. }
        | Reason::AgentLoading { .. }
        | Reason::AgentLost { .. }
        | Reason::AgentDraining { .. }
        | Reason::ModelUnread
        | Reason::RolloutWaits { .. }
        | Reason::PeerTrouble { .. }
        | Reason::CopiesMissing { .. }
        | Reason::RouterCrashLooping { .. }
        | Reason::RouterWithoutHomes { .. } => false,
    }
}
