//! Several reports together.

use super::tally::{Counts, Report};
use std::fmt;

/// What all clients saw.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    asked: u64,
    whole: u64,
    failed: u64,
    cut: u64,
    changed: u64,
    reconnects: u64,
    /// The longest stall of each report, in seconds.
    stalls: Vec<f64>,
}

impl Totals {
    pub fn add(&mut self, report: &Report) {
        let Counts { asked, whole, failed, cut, changed, reconnects, .. } = report.counts;
        self.asked += asked;
        self.whole += whole;
        self.failed += failed;
        self.cut += cut;
        self.changed += changed;
        self.reconnects += reconnects;
        self.stalls.push(report.gap.longest);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, whole, failed, cut, changed, reconnects, stalls } = self;
        let mut stalls = stalls.clone();
        stalls.sort_by(f64::total_cmp);
        let median = stalls.get(stalls.len() / 2).copied().unwrap_or(0.0);
        let longest = stalls.last().copied().unwrap_or(0.0);
        write!(
            f,
            "{asked} requests, {whole} whole, {failed} failed, {cut} cut, {changed} changed, {reconnects} sent again; \
             worst stall of each run: median {median:.2} s, longest {longest:.2} s"
        )
    }
}
