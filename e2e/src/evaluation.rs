//! The evaluation set of the embedded model.

use crate::client::{Answer, Client, Progress, Sampling};
use crate::repository;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::time::Instant;

/// One question with its answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Question {
    pub task: String,
    pub question: String,
    pub answer: String,
    /// What another implementation generates greedily, in f32.
    pub greedy: String,
    /// Whether that was right.
    pub right: bool,
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

/// Greedy answers to all of them, at most `at_once` at a time, in their order.
///
/// # Errors
/// The first question's that failed.
pub async fn greedy_answers(
    client: &Client,
    questions: &[Question],
    at_once: usize,
) -> Result<Vec<Answer>> {
    let asked: Vec<_> = questions.iter().map(|q| (q.question.clone(), Sampling::Greedy)).collect();
    let started = Instant::now();
    let answers = client.ask_all(&asked, at_once, &Progress::default()).await?;
    let tokens: u64 = answers.iter().map(|answer| answer.completion_tokens).sum();
    let seconds = started.elapsed().as_secs_f64();
    println!("{} questions, {at_once} at once: {tokens} tokens in {seconds:.1} s", asked.len());
    Ok(answers)
}
