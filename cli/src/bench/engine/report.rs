//! What `boyle bench engine` prints.

use super::super::cell::Cell;
use super::super::limits::{Bound, MachineLimits, ModelCost};
use super::super::machine::Machine;
use super::{Measured, Opened};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

const BEATS_MEMORY: &str = "\
More than 100%: the weights of so small a model stay in the processor's cache, or something else ran on this machine while
its memory was measured.";

/// All results; serialised, this is the output of `--json`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub version: &'static str,
    pub model: PathBuf,
    pub kernel_path: String,
    /// Threads that the machine's limits were measured with.
    pub limit_threads: usize,
    /// Threads that the model was computed with.
    pub engine_threads: usize,
    pub machine: Machine,
    pub limits: MachineLimits,
    pub cells: BTreeMap<String, CellReport>,
    #[serde(skip)]
    order: Vec<String>,
}

/// One cell's result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellReport {
    pub tokens_per_second: f64,
    /// Tokens per second that the machine allows at most.
    pub limit: f64,
    pub fraction_of_limit: f64,
    pub bound: Bound,
    pub bytes_per_step: f64,
    pub flop_per_step: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_tokens_per_second: Option<f64>,
}

impl CellReport {
    pub fn new(cell: Cell, measured: Measured, cost: &ModelCost, machine: &MachineLimits) -> Self {
        let pass = cost.limit(cell.pass(), machine);
        let limit = cell.tokens_per_pass() as f64 / pass.seconds;
        Self {
            tokens_per_second: measured.tokens_per_second,
            limit,
            fraction_of_limit: measured.tokens_per_second / limit,
            bound: pass.bound,
            bytes_per_step: pass.bytes,
            flop_per_step: pass.flop,
            prefill_tokens_per_second: measured.prefill_tokens_per_second,
        }
    }

    /// Whether weights came faster than memory gives them.
    pub fn beats_memory(&self) -> bool {
        self.bound == Bound::Memory && self.fraction_of_limit > 1.0
    }
}

impl Report {
    pub fn new(
        model: PathBuf,
        opened: &Opened,
        (machine, limit_threads, limits): (Machine, usize, MachineLimits),
        cells: Vec<(Cell, CellReport)>,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            model,
            kernel_path: opened.path.to_string(),
            limit_threads,
            engine_threads: opened.threads,
            machine,
            limits,
            order: cells.iter().map(|(cell, _)| cell.to_string()).collect(),
            cells: cells.into_iter().map(|(cell, report)| (cell.to_string(), report)).collect(),
        }
    }

    /// A table, or one line of JSON.
    pub fn print(&self, output: crate::arguments::BenchOutput) {
        if output.json {
            // Only text and finite numbers are in it.
            print_line!("{}", serde_json::to_string(self).unwrap_or_default());
            return;
        }
        print_line!("{}", self.head());
        print_line!("{:<20} {:>12} {:>12} {:>8}  bound by", "cell", "tokens/s", "limit", "share");
        for name in &self.order {
            if let Some(cell) = self.cells.get(name) {
                let bound = match cell.bound {
                    Bound::Memory => "memory",
                    Bound::Compute => "compute",
                };
                print_line!(
                    "{name:<20} {:>12.1} {:>12.1} {:>7.0}%  {bound}",
                    cell.tokens_per_second,
                    cell.limit,
                    cell.fraction_of_limit * 100.0
                );
            }
        }
        if self.cells.values().any(CellReport::beats_memory) {
            print_line!("{BEATS_MEMORY}");
        }
    }

    fn head(&self) -> String {
        let Machine { processor, cores } = &self.machine;
        let limits = &self.limits;
        let bf16 = match limits.bf16_flop_per_second {
            Some(rate) => format!("{:.0} GFLOP/s", rate / 1e9),
            None => "not in this processor".to_owned(),
        };
        format!(
            "{processor}, {cores} cores; kernel path {} on {} thread(s)\n\
             with {} threads: memory read {:.1} GB/s, f32 multiply-add {:.0} GFLOP/s, bf16 dot product {bf16}",
            self.kernel_path,
            self.engine_threads,
            self.limit_threads,
            limits.read_bytes_per_second / 1e9,
            limits.f32_flop_per_second / 1e9,
        )
    }
}
