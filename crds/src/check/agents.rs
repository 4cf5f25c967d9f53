//! `spec.agents`: how many, for how long, with which devices.

use super::{duration, range as check_range, text};
use crate::spec::{ACCELERATORS_MAX, AGENTS_MAX, Accelerator, Agents};
use crate::violation::Violation;
use planner::spec::AgentRange;
use std::time::Duration;

/// Patience of a deployment that may sleep and does not say: longer than a coffee, shorter than a night.
const SLEEP_AFTER_DEFAULT: Duration = Duration::from_secs(10 * 60);

pub(crate) fn range(agents: &Agents, found: &mut Vec<Violation>) -> AgentRange {
    let (min, max) = (agents.min, agents.max.unwrap_or(agents.min.max(1)));
    check_range("spec.agents", (min, max), AGENTS_MAX, found);
    AgentRange { min, max }
}

pub(crate) fn scale_down_delay(agents: &Agents, found: &mut Vec<Violation>) -> Duration {
    duration("spec.agents.scaleDownDelay", &agents.scale_down_delay, found)
}

pub(crate) fn sleep_after(agents: &Agents, found: &mut Vec<Violation>) -> Option<Duration> {
    let field = "spec.agents.sleepAfter";
    match (&agents.sleep_after, agents.min) {
        (None, 0) => Some(SLEEP_AFTER_DEFAULT),
        (None, _) => None,
        (Some(text), 0) => Some(duration(field, text, found)),
        (Some(text), min) => {
            let remedy = format!(
                "leave it out, or write 0 for spec.agents.min, which is {min}: only then may the deployment sleep"
            );
            found.push(Violation::new(field, text, remedy));
            None
        }
    }
}

pub(crate) fn accelerator(agents: &Agents, found: &mut Vec<Violation>) {
    let Some(Accelerator { resource, count }) = &agents.accelerator else { return };
    if !text::is_extended_resource(resource) {
        let remedy = "write an extended resource with its domain, nvidia.com/gpu for example";
        found.push(Violation::new("spec.agents.accelerator.resource", resource, remedy));
    }
    if !(1..=ACCELERATORS_MAX).contains(count) {
        let remedy =
            format!("write 1 to {ACCELERATORS_MAX}, or leave accelerator out for the processor");
        found.push(Violation::new("spec.agents.accelerator.count", count, remedy));
    }
}
