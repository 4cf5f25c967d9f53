//! The evaluation set of the embedded model.

use crate::repository;
use anyhow::{Context, Result};
use serde::Deserialize;

/// One question with its answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Question {
    pub task: String,
    pub question: String,
    pub answer: String,
    /// What another implementation generates greedily, in f32.
    pub greedy: String,
}

/// All of them, in the file's order.
///
/// # Errors
/// When the file is missing or malformed.
pub fn questions() -> Result<Vec<Question>> {
    let path = repository().join("models/tiny-r1/eval.jsonl");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    text.lines().map(|line| serde_json::from_str(line).context("a line of eval.jsonl")).collect()
}

/// `count` of them, spread evenly over the file, so that every task is among them.
///
/// # Errors
/// As [`questions`].
pub fn spread(count: usize) -> Result<Vec<Question>> {
    let all = questions()?;
    Ok((0..count).filter_map(|index| all.get(index * all.len() / count).cloned()).collect())
}

/// The `count` with the longest texts.
///
/// # Errors
/// As [`questions`].
pub fn longest(count: usize) -> Result<Vec<Question>> {
    let mut all = questions()?;
    all.sort_by_key(|question| std::cmp::Reverse(question.greedy.len()));
    all.truncate(count);
    Ok(all)
}
