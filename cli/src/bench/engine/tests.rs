//! What the cells hand to the engine, and what is printed of them.

use super::{CellReport, Measured, cache_shape, rate};
use crate::bench::cell::Cell;
use crate::bench::limits::{MachineLimits, ModelCost, Routed};

#[test]
fn the_cache_holds_the_largest_cell() {
    let cells = [Cell::Decode { sequences: 8 }, Cell::DecodeBehind { context: 1000 }];
    // 50 positions are 4 blocks of 16 for each of 8 sequences; 1000 are 63.
    assert_eq!(cache_shape(&cells).block_count, 63);
    assert_eq!(cache_shape(&cells[..1]).block_count, 32);
}

#[test]
fn a_disturbed_difference_is_no_rate() {
    for (seconds, expected) in [(2.0, Some(16.0)), (0.0, None), (-1.0, None), (f64::NAN, None)] {
        assert_eq!(rate(32, seconds), expected, "{seconds}");
    }
}

#[test]
fn a_share_is_measured_over_limit() {
    let cost = ModelCost {
        dense_bytes: 100.0,
        expert_bytes: 10.0,
        position_bytes: 0.0,
        active_parameters: 1.0,
        head_parameters: 0.0,
        position_flop: 0.0,
        routed: vec![Routed { experts: 4, chosen: 2 }],
    };
    let machine = MachineLimits {
        read_bytes_per_second: 1200.0,
        f32_flop_per_second: 1e9,
        bf16_flop_per_second: None,
    };
    let measured = Measured { tokens_per_second: 5.0, prefill_tokens_per_second: None };
    let report = CellReport::new(Cell::Decode { sequences: 1 }, measured, &cost, &machine);
    assert_eq!((report.bytes_per_step, report.limit, report.fraction_of_limit), (120.0, 10.0, 0.5));
    assert!(!report.beats_memory());
    let cached = Measured { tokens_per_second: 11.0, ..measured };
    let cached = CellReport::new(Cell::Decode { sequences: 1 }, cached, &cost, &machine);
    assert!(cached.beats_memory());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["bound"], "memory");
    assert_eq!(json["fraction_of_limit"], 0.5);
    assert!(json.get("prefill_tokens_per_second").is_none());
}
