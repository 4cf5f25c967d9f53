//! What agents and routers say → what scaling and cost are decided from. Pure.

use crate::lost::Losses;
use crate::reason::Reason;
use crate::report::{Report, Reports};
use crate::routers::{RouterOutcome, RouterWords};
use crate::substrate::Observed;
use planner::cost::{Tokens, Usage, growth};
use planner::identity::AgentId;
use planner::inventory::AgentState;
use planner::scale::{AgentLoad, AgentSignal, RouterLoad, RouterSignal, Signals};
use proto::v1::{AgentPhase, AgentStatus, RouterStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The load as it is known now.
pub fn signals(
    observed: &Observed,
    reports: &Reports,
    losses: &Losses,
    words: &RouterWords,
) -> Signals {
    let broken = broken(observed);
    let mut signals = Signals::default();
    for agent in &observed.starting {
        signals.agents.insert(agent.clone(), coming(agent, &broken));
    }
    for (agent, facts) in &observed.inventory.agents {
        let signal = match facts.state {
            AgentState::Leaving => {
                signals.leaving += 1;
                continue;
            }
            _ if losses.lost.contains_key(agent) => AgentSignal::Failed,
            AgentState::Restarting => coming(agent, &broken),
            AgentState::Running | AgentState::Draining => heard(agent, reports, &broken),
            AgentState::Lost => AgentSignal::Failed,
        };
        signals.agents.insert(agent.clone(), signal);
    }
    signals.routers = words.iter().map(|(name, word)| (name.clone(), router(word))).collect();
    signals
}

/// Agents that the substrate says will not come up by waiting.
pub fn broken(observed: &Observed) -> BTreeMap<AgentId, String> {
    let broken = |reason: &Reason| match reason {
        Reason::AgentCrashLooping { agent, cause, .. }
        | Reason::AgentUnstartable { agent, cause }
        | Reason::AgentUnschedulable { agent, cause } => Some((agent.clone(), cause.clone())),
        _ => None,
    };
    observed.reasons.iter().filter_map(broken).collect()
}

fn coming(agent: &AgentId, broken: &BTreeMap<AgentId, String>) -> AgentSignal {
    if broken.contains_key(agent) { AgentSignal::Failed } else { AgentSignal::Coming }
}

fn heard(agent: &AgentId, reports: &Reports, broken: &BTreeMap<AgentId, String>) -> AgentSignal {
    match reports.get(agent) {
        None | Some(Report::Awaited) => coming(agent, broken),
        Some(Report::Silent { .. }) => AgentSignal::Missing,
        Some(Report::Heard(status)) => match status.phase() {
            AgentPhase::Ready => AgentSignal::Ready(load(status)),
            AgentPhase::Failed => AgentSignal::Failed,
            // One that drains is about to be restarted.
            AgentPhase::Unassigned | AgentPhase::Loading | AgentPhase::Draining => {
                coming(agent, broken)
            }
        },
    }
}

fn load(status: &AgentStatus) -> AgentLoad {
    let load = status.current.unwrap_or_default();
    AgentLoad {
        running: load.sequences_running,
        waiting: load.sequences_waiting,
        cache_used: load.kv_blocks_used,
        cache_total: load.kv_blocks_total,
        tokens_per_second: whole(load.generated_tokens_per_second),
    }
}

/// What is no number, or negative, is nothing.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` does just that.
fn whole(rate: f32) -> u32 {
    rate as u32
}

fn router(word: &RouterOutcome) -> RouterSignal {
    let Some(status) = word.status() else { return RouterSignal::Missing };
    let measured = |seconds: f64| {
        (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    };
    RouterSignal::Heard(RouterLoad {
        in_flight: status.requests_in_flight,
        held: status.requests_held,
        window: Duration::from_secs(u64::from(status.window_seconds)),
        first_token_p90: measured(status.time_to_first_token_p90_seconds),
        output_token_p90: measured(status.time_per_output_token_p90_seconds),
        idle: Duration::from_secs(status.idle_seconds),
    })
}

/// Counters of routers from one look to the next.
#[derive(Debug, Default)]
pub struct Counters {
    before: BTreeMap<String, RouterStatus>,
}

impl Counters {
    /// What was used since the last look. What a router counted before the first look is not ours to charge.
    pub fn usage(&mut self, signals: &Signals, words: &RouterWords) -> Usage {
        let mut tokens = Tokens::default();
        self.before.retain(|name, _| words.contains_key(name));
        for (name, word) in words {
            let Some(status) = word.status() else { continue };
            if let Some(before) = self.before.get(name) {
                tokens = tokens.plus(grown(before, status));
            }
            self.before.insert(name.clone(), status.clone());
        }
        let busy = |signal: &&AgentSignal| match signal {
            AgentSignal::Ready(load) => load.running > 0,
            AgentSignal::Coming | AgentSignal::Failed | AgentSignal::Missing => false,
        };
        let count = |agents: usize| u32::try_from(agents).unwrap_or(u32::MAX);
        let agents = count(signals.agents.len()).saturating_add(signals.leaving);
        Usage { agents, busy: count(signals.agents.values().filter(busy).count()), tokens }
    }
}

/// Routers count cached tokens among those of prompts, and reasoning tokens among the generated ones.
fn grown(before: &RouterStatus, now: &RouterStatus) -> Tokens {
    let prompt = growth(before.prompt_tokens_total, now.prompt_tokens_total);
    let cached = growth(before.cached_tokens_total, now.cached_tokens_total).min(prompt);
    let generated = growth(before.generation_tokens_total, now.generation_tokens_total);
    let reasoning =
        growth(before.reasoning_tokens_total, now.reasoning_tokens_total).min(generated);
    Tokens { prompt: prompt - cached, cached, reasoning, answer: generated - reasoning }
}

/// Sequences on all agents that are heard.
pub fn sequences(reports: &Reports) -> u32 {
    let of = |report: &Report| {
        let load = report.status().and_then(|status| status.current).unwrap_or_default();
        load.sequences_running.saturating_add(load.sequences_waiting)
    };
    reports.values().map(of).fold(0, u32::saturating_add)
}

/// Names of agents that are asked for and stay.
pub fn staying(observed: &Observed) -> BTreeSet<AgentId> {
    let there = observed.inventory.agents.iter();
    let there = there.filter(|(_, facts)| facts.state != AgentState::Leaving);
    there.map(|(agent, _)| agent).chain(&observed.starting).cloned().collect()
}
