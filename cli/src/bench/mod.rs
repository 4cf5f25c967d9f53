//! `boyle bench`: how fast this machine runs a model, beside what its memory and its processor allow.

mod cell;
mod engine;
mod error;
mod limits;
mod load;
mod machine;

use crate::arguments::{BenchArguments, BenchCommand};
use std::process::ExitCode;

/// Runs one benchmark and prints its result.
///
/// # Errors
/// For a model, a cell or a kernel path that cannot be used.
pub fn run(arguments: &BenchArguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        BenchCommand::Engine(arguments) => engine::run(arguments)?,
        BenchCommand::Load(arguments) => load::run(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The middle one, or the mean of the two in the middle; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.get(half.wrapping_sub(1)), values.get(half)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (_, Some(middle)) => *middle,
        (_, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        let cases: [(&[f64], f64); 4] =
            [(&[], 0.0), (&[3.0], 3.0), (&[9.0, 1.0, 2.0], 2.0), (&[4.0, 1.0, 2.0, 9.0], 3.0)];
        for (values, expected) in cases {
            assert_eq!(median(values.to_vec()), expected, "{values:?}");
        }
    }
}
