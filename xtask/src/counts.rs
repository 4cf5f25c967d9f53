//! How many tests passed and failed, read from what the test runners print.

use std::ops::AddAssign;

/// Tests of one or many runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl Counts {
    /// What one line of output tells: a summary line of libtest or pytest, or nothing.
    pub fn in_line(line: &str) -> Self {
        libtest(line).or_else(|| pytest(line)).or_else(|| scenarios(line)).unwrap_or_default()
    }
}

/// `test result: ok. 3 passed; 0 failed; 0 ignored; …`
fn libtest(line: &str) -> Option<Counts> {
    let (_, rest) = line.split_once("test result: ")?;
    let (_, rest) = rest.split_once(". ")?;
    Some(sum(rest.split(';')))
}

/// `===== 2 failed, 3 passed in 0.12s =====`
fn pytest(line: &str) -> Option<Counts> {
    let inner = line.strip_prefix("==")?.trim_matches(['=', ' ']);
    let (counts, _) = inner.rsplit_once(" in ")?;
    Some(sum(counts.split(',')))
}

/// `3 passed, 0 failed`, and nothing else.
fn scenarios(line: &str) -> Option<Counts> {
    let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
    Some(Counts { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
}

fn sum<'a>(parts: impl Iterator<Item = &'a str>) -> Counts {
    let mut counts = Counts::default();
    for part in parts {
        let mut words = part.split_whitespace();
        let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match words.next() {
            Some("passed") => counts.passed += number,
            Some("failed" | "error" | "errors") => counts.failed += number,
            _ => (),
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::Counts;

    fn check(line: &str, passed: u64, failed: u64) {
        assert_eq!(Counts::in_line(line), Counts { passed, failed }, "{line}");
    }

    #[test]
    fn reads_libtest_and_pytest_summaries() {
        check("test result: ok. 17 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out", 17, 0);
        check("test result: FAILED. 1 passed; 4 failed; 0 ignored; 0 measured", 1, 4);
        check("=================== 12 passed in 3.21s ===================", 12, 0);
        check("=== 2 failed, 3 passed, 1 error in 0.10s ===", 3, 3);
    }

    #[test]
    fn reads_what_scenarios_end_with() {
        check("12 passed, 1 failed", 12, 1);
        check("=== a passed, 1 failed", 0, 0);
    }

    #[test]
    fn ignores_every_other_line() {
        check("test tidy::tests::arrows ... ok", 0, 0);
        check("running 5 tests", 0, 0);
        check("=== 5 things in a row", 0, 0);
    }
}
