//! A greedy text does not depend on the number of agents, the placement, or who else is served.

use anyhow::{Result, ensure};
use e2e::client::Answer;
use e2e::deployment::{Deployment, Shape};
use e2e::evaluation::{self, Question};
use e2e::status::Status;
use std::collections::BTreeSet;

/// Questions that every deployment is asked.
const QUESTIONS: usize = 200;

/// Layers of the embedded model that have experts: four, and the one that drafts.
const MOE_LAYERS: usize = 5;

/// Streams at once in the crowded runs.
const CROWD: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn greedy_texts_are_equal_on_one_two_and_three_agents() -> Result<()> {
    let questions = evaluation::spread(QUESTIONS)?;
    let mut deployment = Deployment::start(Shape { agents: 1, copies: 1 }).await?;
    let expected = texts(&deployment, &questions, 1).await?;
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

async fn texts(
    deployment: &Deployment,
    questions: &[Question],
    at_once: usize,
) -> Result<Vec<Answer>> {
    evaluation::greedy_answers(&deployment.client(), questions, at_once).await
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

/// Each agent holds some experts and not all, and each expert is where the number of copies says.
fn check_sharding(status: &Status, copies: usize) -> Result<()> {
    let all: BTreeSet<_> = status.copies().into_keys().collect();
    ensure!(
        all.len() == status.experts.placed && all.len() == MOE_LAYERS * 16,
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
