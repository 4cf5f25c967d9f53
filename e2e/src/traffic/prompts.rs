//! Prompts with the answers that are expected, recorded while nothing happens.

use crate::client::{Answer, Client, Progress, Sampling};
use crate::evaluation::{self, Question};
use anyhow::{Result, ensure};

/// Streams at once while the answers are recorded: some, so that it does not take long.
const RECORDED_AT_ONCE: usize = 8;

/// How many greedy texts may differ from those of the evaluation set, which another implementation computed in f32:
/// where its two best tokens are nearly equal, bf16 may take the second.
const DIFFERENT_SHARE_MAX: f64 = 0.1;

/// A question whose answer is known.
#[derive(Clone, Debug)]
pub struct Prompt {
    pub question: String,
    pub sampling: Sampling,
    pub expected: Answer,
}

/// The questions with the longest answers, every other one sampled with a seed, answered once.
///
/// # Errors
/// When one is not answered, or greedy answers are not those of the evaluation set.
pub async fn record(client: &Client, count: usize) -> Result<Vec<Prompt>> {
    let questions = evaluation::longest(count)?;
    ensure!(!questions.is_empty(), "no prompts were asked for");
    let asked: Vec<_> =
        questions.iter().zip(0..).map(|(q, n)| (q.question.clone(), way(n))).collect();
    let answers = client.ask_all(&asked, RECORDED_AT_ONCE, &Progress::default()).await?;
    let greedy = questions.iter().zip(&answers).step_by(2);
    let different = greedy.clone().filter(|(question, answer)| !is_same(question, answer)).count();
    let most = (greedy.count() as f64 * DIFFERENT_SHARE_MAX).ceil() as usize;
    ensure!(
        different <= most,
        "{different} greedy answers differ from the evaluation set; at most {most} may"
    );
    let known = asked.into_iter().zip(answers);
    Ok(known
        .map(|((question, sampling), expected)| Prompt { question, sampling, expected })
        .collect())
}

fn way(number: u64) -> Sampling {
    if number.is_multiple_of(2) { Sampling::Greedy } else { Sampling::Seeded { seed: number } }
}

/// Whether reasoning and answer are those of the evaluation set, but for the line breaks around the tag.
pub fn is_same(question: &Question, answer: &Answer) -> bool {
    let (reasoning, content) = question.greedy.split_once("</think>").unwrap_or_default();
    answer.reasoning.trim() == reasoning.trim() && answer.content.trim() == content.trim()
}
