//! What README shows works as it stands there.

use anyhow::{Context, Result, ensure};
use e2e::deployment::{Deployment, Shape, boyle};
use e2e::{python, repository};
use std::process::{Command, Output};

#[test]
fn the_manifest_is_accepted() -> Result<()> {
    let home = tempfile::tempdir()?;
    let file = home.path().join("deployment.yaml");
    std::fs::write(&file, block("yaml", "kind: ModelDeployment")?)?;
    let planned = boyle(home.path())?.args(["plan", "--json"]).arg(&file).output()?;
    let plan: serde_json::Value = serde_json::from_str(&succeeded(planned)?)?;
    let agents = plan.pointer("/agents").and_then(|agents| agents.as_object());
    ensure!(agents.is_some_and(|agents| agents.len() == 3), "three agents are asked for: {plan}");
    Ok(())
}

#[tokio::test]
async fn the_requests_are_answered() -> Result<()> {
    let python = python::environment()?;
    let deployment = Deployment::start(Shape { agents: 3, copies: 2 }).await?;
    let address = "http://127.0.0.1:8080";
    let here = |text: String| {
        ensure!(text.contains(address), "README no longer asks {address}");
        Ok(text.replace(address, deployment.url()))
    };
    let curl = here(block("sh", "curl -N")?)?;
    let streamed = succeeded(Command::new("bash").args(["-c", &curl]).output()?)?;
    ensure!(streamed.contains("reasoning_content") && streamed.contains("[DONE]"), "{streamed}");
    let answer: String = streamed
        .split("\"content\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    ensure!(answer.contains("appears 3 times"), "README promises the right answer: {streamed}");
    let program = here(block("python", "from openai")?)?;
    let printed = succeeded(Command::new(python).args(["-c", &program]).output()?)?;
    ensure!(printed.contains("9.9 is bigger"), "{printed}");
    Ok(())
}

/// README's first block in this language that contains `mark`.
fn block(language: &str, mark: &str) -> Result<String> {
    let readme = std::fs::read_to_string(repository().join("README.md"))?;
    let opening = format!("```{language}\n");
    let mut blocks = readme.split(&opening).skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .find(|block| block.contains(mark))
        .map(str::to_owned)
        .with_context(|| format!("no {language} with {mark}"))
}

fn succeeded(output: Output) -> Result<String> {
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
