//! What a million tokens really costs: agent-hours × price ÷ tokens, from counters. Idle time is part of it, and shown.

use crate::moment::Moment;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Costs are those of the last hour: long enough that a pause between requests does not make them jump.
const WINDOW: Duration = Duration::from_secs(3_600);
/// The window moves in steps of this, which bounds what is remembered to sixty entries.
const STEP: Duration = Duration::from_secs(60);

/// What an agent costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Of one agent for one hour, accelerators together, in millionths of the currency.
    pub agent_hour_millionths: u64,
    pub currency: String,
}

/// Tokens that routers have counted, each one once: cached prompt tokens are not among `prompt`, reasoning tokens not
/// among `answer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    pub prompt: u64,
    pub cached: u64,
    pub reasoning: u64,
    pub answer: u64,
}

impl Tokens {
    /// All of them.
    pub fn total(&self) -> u64 {
        [self.cached, self.reasoning, self.answer]
            .iter()
            .fold(self.prompt, |a, b| a.saturating_add(*b))
    }

    /// The sum, part by part.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.saturating_add(other.prompt),
            cached: self.cached.saturating_add(other.cached),
            reasoning: self.reasoning.saturating_add(other.reasoning),
            answer: self.answer.saturating_add(other.answer),
        }
    }
}

/// What was used since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Agents that existed, ready or not: they are paid for.
    pub agents: u32,
    /// Agents among them that ran a sequence.
    pub busy: u32,
    /// Tokens served since the last look.
    pub tokens: Tokens,
}

/// Usage of the last hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CostMeter {
    steps: VecDeque<Step>,
    last: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Step {
    begin: Moment,
    agent_ms: u64,
    busy_ms: u64,
    tokens: Tokens,
}

/// The cost of a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Of a million tokens of any kind; `None` when none was served.
    pub per_million_tokens: Option<f64>,
    /// Of everything in the window.
    pub total: f64,
    pub currency: String,
    /// Part of the agent time in which no sequence ran, from 0 to 1.
    pub idle_share: f64,
    pub agent_hours: f64,
    pub window_seconds: u64,
    pub tokens: Tokens,
}

impl CostMeter {
    /// Takes note of what happened since the last call. A clock that goes back adds no time.
    pub fn observe(&mut self, now: Moment, usage: Usage) {
        let passed = self.last.map_or(0, |last| now.since(last).as_millis());
        // A gap longer than the window was not watched, so it is not charged.
        let passed = u64::try_from(passed.min(WINDOW.as_millis())).unwrap_or(0);
        self.last = Some(now);
        let expired = |step: &Step| now.since(step.begin) > WINDOW;
        while self.steps.front().is_some_and(expired) {
            self.steps.pop_front();
        }
        if self.steps.back().is_none_or(|step| now.since(step.begin) >= STEP) {
            self.steps.push_back(Step {
                begin: now,
                agent_ms: 0,
                busy_ms: 0,
                tokens: Tokens::default(),
            });
        }
        if let Some(step) = self.steps.back_mut() {
            let ms = |agents: u32| passed.saturating_mul(u64::from(agents));
            step.agent_ms = step.agent_ms.saturating_add(ms(usage.agents));
            step.busy_ms = step.busy_ms.saturating_add(ms(usage.busy.min(usage.agents)));
            step.tokens = step.tokens.plus(usage.tokens);
        }
    }

    /// The cost of the window; `None` before any time has passed.
    #[allow(clippy::cast_precision_loss)] // Fifty-three bits of milliseconds are more than any window has.
    pub fn cost(&self, price: &Price) -> Option<Cost> {
        let begin = self.steps.front()?.begin;
        let window = self.last?.since(begin);
        let sum = |of: fn(&Step) -> u64| self.steps.iter().map(of).fold(0, u64::saturating_add);
        let (agent_ms, busy_ms) = (sum(|step| step.agent_ms), sum(|step| step.busy_ms));
        let tokens = self.steps.iter().fold(Tokens::default(), |all, step| all.plus(step.tokens));
        let agent_hours = agent_ms as f64 / 3_600_000.0;
        let total = agent_hours * price.agent_hour_millionths as f64 / 1e6;
        let served = tokens.total();
        let idle_ms = agent_ms.saturating_sub(busy_ms);
        Some(Cost {
            per_million_tokens: (served > 0).then(|| total / served as f64 * 1e6),
            total,
            currency: price.currency.clone(),
            idle_share: if agent_ms == 0 { 0.0 } else { idle_ms as f64 / agent_ms as f64 },
            agent_hours,
            window_seconds: window.as_secs(),
            tokens,
        })
    }
}

/// What a counter grew by. One that fell was started again, so all of it is new.
pub fn growth(before: u64, now: u64) -> u64 {
    if now >= before { now - before } else { now }
}
