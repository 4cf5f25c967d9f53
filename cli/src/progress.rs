//! What people see while a deployment comes up. Goes to standard error.

use crate::memory::readable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;
use substrate::reason::Reason;
use substrate::{DeploymentStatus, Phase};
use tokio::sync::watch;
use tokio::time::Instant;

/// Longest silence where no bar is drawn.
const LINE_EVERY: Duration = Duration::from_millis(1500);

/// Where progress is shown.
#[derive(Debug)]
pub enum Progress {
    /// A bar that is redrawn and vanishes in the end.
    Bar(ProgressBar),
    /// Lines, for logs.
    Lines { at: Instant },
}

impl Progress {
    /// A bar on a terminal, lines elsewhere.
    pub fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { at: Instant::now() };
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:24.cyan/dim} {msg}") {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    /// Shows a step that has no status yet.
    pub fn step(&mut self, text: &str) {
        match self {
            Self::Bar(bar) => bar.set_message(text.to_owned()),
            Self::Lines { at } => {
                note_line!("boyle: {text}");
                *at = Instant::now();
            }
        }
    }

    /// Shows a status.
    pub fn show(&mut self, status: &DeploymentStatus) {
        let (loaded, total) = bytes(status);
        let text = describe(status, loaded, total);
        match self {
            Self::Bar(bar) => {
                bar.set_length(total.max(1));
                bar.set_position(loaded);
                bar.set_message(text);
            }
            Self::Lines { at } => {
                if at.elapsed() >= LINE_EVERY {
                    note_line!("boyle: {text}");
                    *at = Instant::now();
                }
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines { .. } => {}
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// A deployment that will not come up by waiting.
#[derive(Debug, thiserror::Error)]
#[error("the deployment cannot be served: {}", reasons.join("; "))]
pub struct Unservable {
    pub reasons: Vec<String>,
}

/// Shows progress until the deployment is available, and returns its URL.
///
/// # Errors
/// [`Unservable`] with the reasons when it has failed.
pub async fn until_available(
    statuses: &mut watch::Receiver<DeploymentStatus>,
    progress: &mut Progress,
) -> Result<String, Unservable> {
    loop {
        let status = statuses.borrow_and_update().clone();
        match (status.phase, &status.url) {
            (Phase::Available, Some(url)) => {
                progress.finish();
                return Ok(url.clone());
            }
            (Phase::Failed, _) => {
                progress.finish();
                let reasons = status.reasons.iter().filter(|reason| !is_waiting(reason));
                return Err(Unservable { reasons: reasons.map(ToString::to_string).collect() });
            }
            (
                Phase::Available
                | Phase::Pending
                | Phase::Loading
                | Phase::Degraded
                | Phase::Sleeping,
                _,
            ) => {
                progress.show(&status);
            }
        }
        // The sender lives in the deployment, which outlives this future; a timeout only redraws.
        let _ = tokio::time::timeout(LINE_EVERY, statuses.changed()).await;
    }
}

/// What passes by itself is no news beside a failure.
fn is_waiting(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::AgentStarting { .. }
            | Reason::AgentLoading { .. }
            | Reason::ExpertsMissing { .. }
            | Reason::CopiesMissing { .. }
            | Reason::RouterStarting
            | Reason::RouterWithoutHomes { .. }
            | Reason::PlanFallsShort { .. }
    )
}

fn bytes(status: &DeploymentStatus) -> (u64, u64) {
    let agents = &status.agent_details;
    let loaded = agents.iter().map(|agent| agent.bytes_loaded).sum();
    (loaded, agents.iter().map(|agent| agent.bytes_total).sum())
}

fn describe(status: &DeploymentStatus, loaded: u64, total: u64) -> String {
    let agents = status.agents;
    match status.phase {
        Phase::Pending => format!("starting {} agents", agents.desired),
        Phase::Sleeping => "asleep".to_owned(),
        Phase::Loading | Phase::Available | Phase::Degraded | Phase::Failed => {
            let trouble = status.reasons.iter().find(|reason| !is_waiting(reason));
            let trouble = trouble.map(|reason| format!("; {reason}")).unwrap_or_default();
            format!(
                "{} of {} agents ready, {} of {} loaded{trouble}",
                agents.ready,
                agents.desired,
                readable(loaded),
                readable(total)
            )
        }
    }
}
