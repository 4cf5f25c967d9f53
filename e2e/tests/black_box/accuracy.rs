//! The served model is as good as the same checkpoint in another implementation.

use anyhow::{Result, ensure};
use e2e::client::Answer;
use e2e::deployment::{Deployment, Shape};
use e2e::evaluation::{self, Question};

/// Streams at once.
const CROWD: usize = 16;

/// How many of a hundred questions we may get right less than the other implementation.
const RIGHT_LOSS_MAX: usize = 1;

/// How many of a hundred texts may differ from the other implementation's, which computes in f32: where its two
/// best tokens are nearly equal, bf16 may take the second.
const DIFFERENT_MAX: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn the_evaluation_set_is_answered_as_well_as_elsewhere() -> Result<()> {
    let questions = evaluation::questions()?;
    let deployment = Deployment::start(Shape { agents: 3, copies: 2 }).await?;
    let answers = evaluation::greedy_answers(&deployment.client(), &questions, CROWD).await?;
    let count = questions.len();
    ensure!(count == 500 && answers.len() == count, "{count} questions, {} answers", answers.len());
    let pairs = || questions.iter().zip(&answers);
    let right =
        pairs().filter(|(question, answer)| answer.content.trim() == question.answer).count();
    let elsewhere = questions.iter().filter(|question| question.right).count();
    let different = pairs().filter(|(question, answer)| !is_same(question, answer)).count();
    println!("{right} of {count} right, {elsewhere} elsewhere; {different} texts differ");
    ensure!(right + count * RIGHT_LOSS_MAX / 100 >= elsewhere, "worse than the model is");
    ensure!(different <= count * DIFFERENT_MAX / 100, "too many texts differ");
    Ok(())
}

/// Whether reasoning and answer are those of the other implementation, but for the line breaks around the tag.
fn is_same(question: &Question, answer: &Answer) -> bool {
    let (reasoning, content) = question.greedy.split_once("</think>").unwrap_or_default();
    answer.reasoning.trim() == reasoning.trim() && answer.content.trim() == content.trim()
}
