//! What became of all requests so far; the report as text and as JSON.

use super::attempt::Ending;
use super::histogram::Histogram;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Troubles kept with their reasons; all are counted.
const EXAMPLES_MAX: usize = 20;

/// From when on an answer counts as late.
#[derive(Clone, Copy, Debug)]
pub struct Lateness {
    pub first_token: Duration,
    pub stall: Duration,
}

impl Default for Lateness {
    fn default() -> Self {
        Self { first_token: Duration::from_secs(10), stall: Duration::from_secs(5) }
    }
}

/// Counts and times.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    lateness: Lateness,
    counts: Counts,
    first_tokens: Histogram,
    gaps: Histogram,
    /// From the last token on a broken connection, or from the question, to the first one on the next.
    reconnect_gaps: Histogram,
    worst_stall_at: Duration,
    examples: VecDeque<Example>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests, each counted once however often it was sent.
    pub asked: u64,
    pub whole: u64,
    /// Refused, or given up after many broken connections.
    pub failed: u64,
    pub cut: u64,
    pub changed: u64,
    /// Whole, but slower than they may be.
    pub late: u64,
    /// Times that a request was sent again because its connection broke.
    pub reconnects: u64,
    /// Arrivals that found too many requests open already.
    pub unsent: u64,
    /// Still running when the driver gave up waiting.
    pub unfinished: u64,
    /// Events with text.
    pub events: u64,
}

/// Something that should not have happened, or a reconnect.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// Since the start.
    pub seconds: f64,
    pub what: String,
}

/// The times of one request.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub asked: Duration,
    pub last: Option<Duration>,
    worst: Duration,
    first: Duration,
    reconnecting: bool,
}

impl Times {
    pub fn new(asked: Duration) -> Self {
        Self {
            asked,
            last: None,
            worst: Duration::ZERO,
            first: Duration::ZERO,
            reconnecting: false,
        }
    }
}

impl Tally {
    pub fn new(lateness: Lateness) -> Self {
        Self { lateness, ..Self::default() }
    }

    pub fn asked(&mut self) {
        self.counts.asked += 1;
    }

    pub fn unsent(&mut self) {
        self.counts.unsent += 1;
    }

    pub fn unfinished(&mut self, count: usize) {
        self.counts.unfinished += count as u64;
    }

    /// An event with text came.
    pub fn heard(&mut self, times: &mut Times, now: Duration) {
        self.counts.events += 1;
        let last = times.last.replace(now);
        let gap = now.saturating_sub(last.unwrap_or(times.asked));
        if times.reconnecting {
            times.reconnecting = false;
            self.reconnect_gaps.add(gap);
        } else if last.is_none() {
            times.first = gap;
            self.first_tokens.add(gap);
        } else {
            if gap > self.gaps.longest() {
                self.worst_stall_at = now;
            }
            self.gaps.add(gap);
            times.worst = times.worst.max(gap);
        }
    }

    /// The connection broke, and the request is sent again.
    pub fn reconnects(&mut self, times: &mut Times, now: Duration, reason: &str) {
        times.reconnecting = true;
        self.counts.reconnects += 1;
        self.example(now, format!("reconnect: {reason}"));
    }

    /// It is over, one way or another.
    pub fn ended(&mut self, times: &Times, now: Duration, ending: &Ending, question: &str) {
        let (count, kind, reason) = match ending {
            Ending::Whole => {
                self.counts.whole += 1;
                let Lateness { first_token, stall } = self.lateness;
                if times.first > first_token || times.worst > stall {
                    self.counts.late += 1;
                    let (first, worst) = (times.first.as_secs_f64(), times.worst.as_secs_f64());
                    self.example(
                        now,
                        format!("late: first token {first:.1} s, stall {worst:.1} s"),
                    );
                }
                return;
            }
            Ending::Broken(reason) => (&mut self.counts.failed, "gave up", reason),
            Ending::Refused(reason) => (&mut self.counts.failed, "refused", reason),
            Ending::Cut(reason) => (&mut self.counts.cut, "cut", reason),
            Ending::Changed(reason) => (&mut self.counts.changed, "changed", reason),
        };
        *count += 1;
        self.example(now, format!("{kind}: {reason} ({question:?})"));
    }

    fn example(&mut self, now: Duration, what: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push_back(Example { seconds: now.as_secs_f64(), what });
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn report(&self, now: Duration) -> Report {
        Report {
            seconds: now.as_secs_f64(),
            counts: self.counts,
            time_to_first_token: Spans::of(&self.first_tokens),
            gap: Spans::of(&self.gaps),
            worst_stall_at_seconds: self.worst_stall_at.as_secs_f64(),
            reconnect_gap: Spans::of(&self.reconnect_gaps),
            examples: self.examples.iter().cloned().collect(),
        }
    }
}

/// Percentiles in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spans {
    pub count: u64,
    pub p50: f64,
    pub p99: f64,
    pub longest: f64,
}

impl Spans {
    fn of(histogram: &Histogram) -> Self {
        Self {
            count: histogram.count(),
            p50: histogram.percentile(0.5).as_secs_f64(),
            p99: histogram.percentile(0.99).as_secs_f64(),
            longest: histogram.longest().as_secs_f64(),
        }
    }
}

impl fmt::Display for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.3} s, p99 {:.3} s, longest {:.3} s", self.p50, self.p99, self.longest)
    }
}

/// Whether requests may have been sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnects {
    /// A router was taken away with its connections.
    Allowed,
    Forbidden,
}

/// Everything about one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub seconds: f64,
    #[serde(flatten)]
    pub counts: Counts,
    pub time_to_first_token: Spans,
    pub gap: Spans,
    pub worst_stall_at_seconds: f64,
    pub reconnect_gap: Spans,
    pub examples: Vec<Example>,
}

impl Report {
    /// No request failed, no answer was cut or changed, and there was one at all.
    ///
    /// # Errors
    /// The whole report.
    pub fn demand(&self, reconnects: Reconnects) -> Result<()> {
        let Counts { whole, failed, cut, changed, unsent, unfinished, .. } = self.counts;
        let harmed = failed + cut + changed + unsent + unfinished;
        ensure!(whole > 0 && harmed == 0, "clients were harmed:\n{self}");
        let sent_again = self.counts.reconnects > 0 && reconnects == Reconnects::Forbidden;
        ensure!(!sent_again, "connections broke although no router was killed:\n{self}");
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { asked, whole, failed, cut, changed, late, .. } = self.counts;
        let Counts { reconnects, unsent, unfinished, events, .. } = self.counts;
        writeln!(f, "requests      {asked} in {:.1} s, {whole} whole", self.seconds)?;
        writeln!(f, "harmed        {failed} failed, {cut} cut, {changed} changed")?;
        writeln!(f, "late          {late}")?;
        writeln!(f, "reconnects    {reconnects}; gap {}", self.reconnect_gap)?;
        if unsent + unfinished > 0 {
            writeln!(f, "not driven    {unsent} unsent, {unfinished} unfinished")?;
        }
        writeln!(f, "first token   {}", self.time_to_first_token)?;
        writeln!(f, "between       {}", self.gap)?;
        writeln!(
            f,
            "worst stall   {:.3} s at {:.1} s",
            self.gap.longest, self.worst_stall_at_seconds
        )?;
        write!(
            f,
            "events        {events}, {:.0} a second",
            events as f64 / self.seconds.max(0.001)
        )?;
        for Example { seconds, what } in &self.examples {
            write!(f, "\n  {seconds:7.2} s  {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn gaps_reconnects_and_first_tokens_are_kept_apart() {
        let mut tally = Tally::new(Lateness { first_token: at(500), stall: at(1000) });
        tally.asked();
        let mut times = Times::new(at(100));
        tally.heard(&mut times, at(300));
        tally.heard(&mut times, at(400));
        tally.reconnects(&mut times, at(450), "reset");
        tally.heard(&mut times, at(2400));
        tally.heard(&mut times, at(2450));
        tally.ended(&times, at(2500), &Ending::Whole, "q");
        let report = tally.report(at(3000));
        assert_eq!(report.time_to_first_token.longest, 0.2);
        assert_eq!((report.gap.count, report.gap.longest), (2, 0.1));
        assert_eq!(report.reconnect_gap.longest, 2.0);
        assert_eq!((report.counts.whole, report.counts.late, report.counts.events), (1, 0, 4));
        assert!(report.demand(Reconnects::Allowed).is_ok());
        assert!(report.demand(Reconnects::Forbidden).is_err());
    }

    #[test]
    fn nothing_that_went_wrong_is_forgiven() {
        for ending in [
            Ending::Broken("reset".to_owned()),
            Ending::Refused("503".to_owned()),
            Ending::Cut("error".to_owned()),
            Ending::Changed("other".to_owned()),
        ] {
            let mut tally = Tally::default();
            for ending in [&Ending::Whole, &ending] {
                tally.asked();
                tally.ended(&Times::new(at(0)), at(10), ending, "q");
            }
            let report = tally.report(at(20));
            assert!(report.demand(Reconnects::Allowed).is_err(), "{ending:?}");
            assert_eq!(report.examples.len(), 1);
        }
        assert!(Tally::default().report(at(1)).demand(Reconnects::Allowed).is_err(), "nothing ran");
        let mut tally = Tally::default();
        tally.asked();
        tally.ended(&Times::new(at(0)), at(10), &Ending::Whole, "q");
        assert!(tally.report(at(20)).demand(Reconnects::Forbidden).is_ok());
        tally.unfinished(1);
        assert!(tally.report(at(20)).demand(Reconnects::Forbidden).is_err());
    }
}
