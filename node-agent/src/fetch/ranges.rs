//! Which bytes of a file are there, and what to ask for to get the others. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of one file; `file` is its position among the folder's files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileRange {
    pub file: usize,
    pub start: u64,
    pub end: u64,
}

impl FileRange {
    pub fn bytes(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// Ranges that neither touch nor overlap: start → end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// Adds a range and joins what it touches.
    pub fn insert(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // Neighbours that touch it are among those that start at or before its end, from the last down.
        while let Some((&start, &end)) = self.0.range(..=range.end).next_back() {
            if end < range.start {
                break;
            }
            self.0.remove(&start);
            range = range.start.min(start)..range.end.max(end);
        }
        self.0.insert(range.start, range.end);
    }

    /// The ranges, ascending.
    pub fn into_ranges(self) -> Vec<Range<u64>> {
        self.0.into_iter().map(|(start, end)| start..end).collect()
    }

    /// Whether every byte of the range is there.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        let before = self.0.range(..=range.start).next_back();
        range.is_empty() || before.is_some_and(|(_, &end)| end >= range.end)
    }

    /// The parts of the range that are not there, ascending.
    pub fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut at = range.start;
        let from =
            self.0.range(..=range.start).next_back().map_or(range.start, |(&start, _)| start);
        for (&start, &end) in self.0.range(from..range.end) {
            if start > at {
                missing.push(at..start);
            }
            at = at.max(end);
        }
        if at < range.end {
            missing.push(at..range.end);
        }
        missing
    }
}

/// Requests for these ranges: neighbours with at most `gap` bytes between them become one, and none is longer than
/// `longest`. Bytes of a gap are asked for although nobody needs them, because a request costs more.
pub fn requests(mut ranges: Vec<FileRange>, gap: u64, longest: u64) -> Vec<FileRange> {
    ranges.retain(|range| range.bytes() > 0);
    ranges.sort();
    let mut joined: Vec<FileRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last)
                if last.file == range.file && range.start <= last.end.saturating_add(gap) =>
            {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    joined.into_iter().flat_map(|range| cut(&range, longest)).collect()
}

fn cut(range: &FileRange, longest: u64) -> impl Iterator<Item = FileRange> + use<> {
    let FileRange { file, start, end } = *range;
    let longest = longest.max(1);
    (0..(end - start).div_ceil(longest)).map(move |n| {
        let start = start + n * longest;
        FileRange { file, start, end: end.min(start + longest) }
    })
}

#[cfg(test)]
mod tests {
    use super::{FileRange, RangeSet, requests};
    use proptest::prelude::*;

    fn set(ranges: &[(u64, u64)]) -> RangeSet {
        let mut set = RangeSet::default();
        for &(start, end) in ranges {
            set.insert(start..end);
        }
        set
    }

    #[test]
    fn touching_ranges_are_one() {
        assert_eq!(set(&[(0, 4), (8, 9), (4, 8)]), set(&[(0, 9)]));
        assert_eq!(set(&[(5, 7), (2, 9), (9, 9)]), set(&[(2, 9)]));
        assert_eq!(set(&[(0, 2), (4, 6)]).missing(&(1..8)), [2..4, 6..8]);
        assert_eq!(set(&[]).missing(&(3..3)), Vec::<std::ops::Range<u64>>::new());
    }

    #[test]
    fn requests_join_and_are_cut() {
        let range = |file, start, end| FileRange { file, start, end };
        let wanted = vec![range(1, 0, 5), range(0, 10, 20), range(0, 22, 30), range(0, 50, 60)];
        let expected = [range(0, 10, 24), range(0, 24, 30), range(0, 50, 60), range(1, 0, 5)];
        assert_eq!(requests(wanted, 2, 14), expected);
        assert_eq!(requests(vec![range(0, 3, 3)], 2, 14), []);
    }

    proptest! {
        #[test]
        fn a_set_knows_each_byte(
            ranges in prop::collection::vec((0..40u64, 0..10u64), 0..12),
            asked in (0..50u64, 0..20u64),
        ) {
            let mut bytes = [false; 100];
            let mut set = RangeSet::default();
            for (start, length) in ranges {
                set.insert(start..start + length);
                bytes[start as usize..(start + length) as usize].fill(true);
            }
            let asked = asked.0..asked.0 + asked.1;
            let missing = set.missing(&asked);
            for at in asked.clone() {
                let is_missing = missing.iter().any(|range| range.contains(&at));
                prop_assert_eq!(is_missing, !bytes[at as usize]);
            }
            prop_assert_eq!(set.contains(&asked), missing.is_empty());
            prop_assert!(missing.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
