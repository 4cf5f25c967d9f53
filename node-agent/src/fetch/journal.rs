//! What is on disk of one file: an append-only list of ranges. A range is written down once its bytes are safe, so that
//! a crash at any moment loses work and never invents it.

use super::ranges::RangeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::Path;

/// Start, end and check, each a little-endian u64.
const RECORD_BYTES: usize = 24;
/// Mixed into the check, so that zeros are no record.
const CHECK: u64 = 0x626f_796c_6520_7631;

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

/// What a journal says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub present: RangeSet,
    /// The whole content was compared with its digest.
    pub is_verified: bool,
}

impl Journal {
    /// Opens or makes the journal of a file of `length` bytes and reads it. A record that a crash cut off, and
    /// everything behind it, counts as nothing.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path, length: u64) -> io::Result<(Self, Recorded)> {
        let content = match std::fs::read(path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut recorded = Recorded::default();
        let mut good = 0;
        for record in content.chunks_exact(RECORD_BYTES) {
            let Some(range) = parse(record).filter(|range| range.end <= length) else { break };
            // An empty range at the end: see `verified`.
            recorded.is_verified |= range == (length..length);
            recorded.present.insert(range);
            good += RECORD_BYTES as u64;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(good)?;
        Ok((Self { file }, recorded))
    }

    /// Writes ranges down; returns once they are safe.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn append(&mut self, ranges: &[Range<u64>]) -> io::Result<()> {
        let records: Vec<u8> = ranges.iter().flat_map(record).collect();
        self.file.write_all(&records)?;
        self.file.sync_data()
    }

    /// Writes down that the whole content was compared with its digest.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn verified(&mut self, length: u64) -> io::Result<()> {
        self.append(std::slice::from_ref(&(length..length)))
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.sync_data()
    }
}

fn record(range: &Range<u64>) -> Vec<u8> {
    [range.start, range.end, check(range)].iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn parse(record: &[u8]) -> Option<Range<u64>> {
    let (words, _) = record.as_chunks::<8>();
    let [start, end, checked] = words else { return None };
    let range = u64::from_le_bytes(*start)..u64::from_le_bytes(*end);
    (range.start <= range.end && u64::from_le_bytes(*checked) == check(&range)).then_some(range)
}

fn check(range: &Range<u64>) -> u64 {
    range.start.rotate_left(17) ^ range.end.rotate_left(41) ^ CHECK
}

#[cfg(test)]
mod tests {
    use super::{Journal, RECORD_BYTES, Recorded};
    use crate::fetch::ranges::RangeSet;

    fn set(ranges: &[(u64, u64)]) -> RangeSet {
        let mut set = RangeSet::default();
        for &(start, end) in ranges {
            set.insert(start..end);
        }
        set
    }

    #[test]
    fn a_crash_loses_at_most_the_last_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, recorded) = Journal::open(&path, 100).unwrap();
        assert_eq!(recorded, Recorded::default());
        journal.append(&[0..10, 20..30]).unwrap();
        journal.append(std::slice::from_ref(&(40..50))).unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), 3 * RECORD_BYTES);
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut journal, recorded) = Journal::open(&path, 100).unwrap();
            let records = [(0, 10), (20, 30), (40, 50)];
            assert_eq!(recorded.present, set(&records[..length / RECORD_BYTES]), "{length}");
            // What comes next is not spoiled by the cut record.
            journal.append(std::slice::from_ref(&(60..70))).unwrap();
            let (_, again) = Journal::open(&path, 100).unwrap();
            assert!(again.present.contains(&(60..70)), "{length}");
        }
    }

    #[test]
    fn what_is_no_record_counts_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        std::fs::write(&path, [0; 2 * RECORD_BYTES]).unwrap();
        assert_eq!(Journal::open(&path, 100).unwrap().1, Recorded::default());
        let (mut journal, _) = Journal::open(&path, 100).unwrap();
        journal.append(std::slice::from_ref(&(0..100))).unwrap();
        journal.verified(100).unwrap();
        let expected = Recorded { present: set(&[(0, 100)]), is_verified: true };
        assert_eq!(Journal::open(&path, 100).unwrap().1, expected);
        // Of a longer file than the one that is there now.
        assert_eq!(Journal::open(&path, 99).unwrap().1, Recorded::default());
    }
}
