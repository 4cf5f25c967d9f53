//! What tokens cost: idle time is part of it.

use planner::cost::{CostMeter, Price, Tokens, Usage, growth};
use planner::moment::Moment;

const HOUR_MS: u64 = 3_600_000;

fn price() -> Price {
    Price { agent_hour_millionths: 2_000_000, currency: "USD".to_owned() }
}

/// Two agents for half an hour, one of them busy, a look each second.
fn half_an_hour(tokens_each_second: u64) -> CostMeter {
    let mut meter = CostMeter::default();
    for second in 0..=1_800 {
        let tokens = Tokens { answer: tokens_each_second, ..Tokens::default() };
        let tokens = if second == 0 { Tokens::default() } else { tokens };
        meter.observe(Moment(second * 1_000), Usage { agents: 2, busy: 1, tokens });
    }
    meter
}

#[test]
fn a_million_tokens_cost_the_agents_time_divided_by_them() {
    let cost = half_an_hour(1_000).cost(&price()).expect("time has passed");
    assert!((cost.agent_hours - 1.0).abs() < 1e-9);
    assert!((cost.total - 2.0).abs() < 1e-9);
    // Two dollars for 1.8 million tokens.
    assert!((cost.per_million_tokens.expect("served") - 2.0 / 1.8).abs() < 1e-9);
    assert!((cost.idle_share - 0.5).abs() < 1e-9, "one of two agents ran nothing");
    assert_eq!(cost.tokens.total(), 1_800_000);
}

#[test]
fn idle_agents_cost_without_a_price_for_a_token() {
    let cost = half_an_hour(0).cost(&price()).expect("time has passed");
    assert_eq!(cost.per_million_tokens, None);
    assert!((cost.total - 2.0).abs() < 1e-9);
}

#[test]
fn only_the_last_hour_counts() {
    let mut meter = half_an_hour(1_000);
    for second in 1_801..(2 * 3_600 + 1_800) {
        meter.observe(
            Moment(second * 1_000),
            Usage { agents: 1, busy: 0, tokens: Tokens::default() },
        );
    }
    let cost = meter.cost(&price()).expect("time has passed");
    assert_eq!(cost.tokens.total(), 0);
    assert!(cost.window_seconds <= 3_600 + 60, "{}", cost.window_seconds);
    assert!((cost.agent_hours - 1.0).abs() < 0.02);
}

#[test]
fn a_clock_that_jumps_charges_at_most_a_window() {
    let mut meter = CostMeter::default();
    let usage = Usage { agents: 1, busy: 0, tokens: Tokens::default() };
    meter.observe(Moment(HOUR_MS), usage);
    meter.observe(Moment(0), usage);
    meter.observe(Moment(1_000 * HOUR_MS), usage);
    assert!(meter.cost(&price()).expect("time has passed").agent_hours <= 1.0);
}

#[test]
fn a_counter_that_fell_was_started_again() {
    assert_eq!((growth(5, 8), growth(8, 3), growth(4, 4)), (3, 3, 0));
}
