//! A greedy text does not depend on the number of agents, the placement, or who else is served.

use anyhow::{Result, ensure};
use e2e::client::{Answer, Progress, Sampling};
use e2e::deployment::{Deployment, Shape};
use e2e::evaluation::{self, Question};
use e2e::status::Status;
use e2e::{Thoroughness, thoroughness};
use std::collections::BTreeSet;

/// Questions that every deployment is asked.
const QUESTIONS: usize = 200;

/// Streams at once in the crowded runs.
const CROWD: usize = 16;

/// How far below the other implementation's accuracy we may be, in questions of a hundred.
const ACCURACY_LOSS_MAX: usize = 1;

#[tokio::test(flavor = "multi_thread")]
async fn greedy_texts_are_equal_on_one_two_and_three_agents() -> Result<()> {
    let questions = evaluation::spread(QUESTIONS)?;
    let mut deployment = Deployment::start(Shape { agents: 1, copies: 1 }).await?;
    let expected = texts(&deployment, &questions, 1).await?;
    check_accuracy(&questions, &expected)?;
    check_texts(
        "1 agent, crowded",
        &questions,
        &expected,
        &texts(&deployment, &questions, CROWD).await?,
    )?;
    for (agents, copies) in [(2, 1), (3, 2)] {
        drop(deployment);
        deployment = Deployment::start(Shape { agents, copies }).await?;
        check_sharding(&deployment.status()?, copies)?;
        for at_once in [1, CROWD] {
            let found = texts(&deployment, &questions, at_once).await?;
            check_texts(
                &format!("{agents} agents, {at_once} at once"),
                &questions,
                &expected,
                &found,
            )?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn accuracy_is_the_models_own() -> Result<()> {
    if thoroughness() == Thoroughness::Short {
        println!(
            "the whole set runs with `cargo xtask e2e --full`; a part of it is checked with the transcripts"
        );
        return Ok(());
    }
    let questions = evaluation::questions()?;
    let deployment = Deployment::start(Shape { agents: 3, copies: 2 }).await?;
    check_accuracy(&questions, &texts(&deployment, &questions, CROWD).await?)
}

async fn texts(
    deployment: &Deployment,
    questions: &[Question],
    at_once: usize,
) -> Result<Vec<Answer>> {
    let asked: Vec<_> = questions.iter().map(|q| (q.question.clone(), Sampling::Greedy)).collect();
    let started = std::time::Instant::now();
    let answers = deployment.client().ask_all(&asked, at_once, &Progress::default()).await?;
    let tokens: u64 = answers.iter().map(|answer| answer.completion_tokens).sum();
    let seconds = started.elapsed().as_secs_f64();
    println!("{} questions, {at_once} at once: {tokens} tokens in {seconds:.1} s", asked.len());
    Ok(answers)
}

fn check_texts(
    what: &str,
    questions: &[Question],
    expected: &[Answer],
    found: &[Answer],
) -> Result<()> {
    ensure!(
        expected.len() == questions.len() && found.len() == questions.len(),
        "{what}: answers are missing"
    );
    for ((question, expected), found) in questions.iter().zip(expected).zip(found) {
        ensure!(
            expected == found,
            "{what}: {:?}\nexpected {expected:?}\nfound    {found:?}",
            question.question
        );
    }
    Ok(())
}

fn check_accuracy(questions: &[Question], answers: &[Answer]) -> Result<()> {
    let (mut right, mut right_elsewhere, mut same) = (0, 0, 0);
    for (question, answer) in questions.iter().zip(answers) {
        let (_, elsewhere) = question.greedy.rsplit_once("</think>").unwrap_or_default();
        right += usize::from(answer.content.trim() == question.answer);
        right_elsewhere += usize::from(elsewhere.trim() == question.answer);
        same += usize::from(
            format!("{}</think>{}", answer.reasoning, answer.content) == question.greedy,
        );
    }
    let count = questions.len();
    println!(
        "{right} of {count} right, {right_elsewhere} in the other implementation, {same} texts identical to its"
    );
    ensure!(
        right + count * ACCURACY_LOSS_MAX / 100 >= right_elsewhere,
        "the answers are worse than the model"
    );
    Ok(())
}

/// Each agent holds some experts and not all, and each expert is where the number of copies says.
fn check_sharding(status: &Status, copies: usize) -> Result<()> {
    let all: BTreeSet<_> = status.copies().into_keys().collect();
    ensure!(
        all.len() == status.experts.placed && all.len() == 4 * 16,
        "experts in memory: {}",
        all.len()
    );
    for agent in &status.agent_details {
        let held: usize = agent.resident.values().map(BTreeSet::len).sum();
        println!("{} holds {held} of {} experts", agent.agent, all.len());
        ensure!(
            held > 0 && held < all.len(),
            "{} does not hold a part of the experts",
            agent.agent
        );
    }
    for (expert, held) in status.copies() {
        ensure!(held == copies, "{expert:?} has {held} copies, not {copies}");
    }
    Ok(())
}
