//! From nothing to the first token.

use crate::client::{Progress, Sampling};
use crate::scenario::{Component, Deployment, operator};
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::{kube, waiting};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub const SCENARIO: Scenario = Scenario {
    name: "install",
    summary: "helm install, five lines of YAML, and a stream from three agents that each hold a part",
    needs: Needs::Nothing,
    length: Length::Short,
    play: |scene| Box::pin(play(scene)),
};

/// What README shows.
const MANIFEST: &str = "\
apiVersion: boyle.dev/v1alpha1
kind: ModelDeployment
metadata: {name: tiny-r1}
spec:
  {model: {source: embedded://tiny-r1}, agents: {min: 3}, experts: {copies: 2}, router: {min: 2}}
";

async fn play(scene: &Scene) -> Result<()> {
    operator::uninstall().await?;
    let installing = Instant::now();
    operator::install(&scene.images).await?;
    println!("helm install --wait took {:.1} s", installing.elapsed().as_secs_f64());
    let applied = Instant::now();
    let arguments = ["apply", "--namespace", &scene.namespace, "--filename", "-"];
    kube::run("kubectl", &arguments, Some(MANIFEST.to_owned()), Duration::from_secs(30)).await?;
    let deployment = Deployment { namespace: scene.namespace.clone(), name: "tiny-r1".to_owned() };
    let first_phase = phase(&deployment).await?;
    ensure!(first_phase != "Available", "it cannot be Available before anything runs");
    deployment.whole().await?;
    println!("Available after {:.1} s", applied.elapsed().as_secs_f64());
    first_token(&deployment, applied).await?;
    let shown = kube::kubectl(&["get", "mdep", "--namespace", &scene.namespace]).await?;
    println!("{shown}");
    let line = shown.lines().nth(1).context("kubectl get mdep shows no line")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    ensure!(words.get(1..3) == Some(&["Available", "3/3"]), "{shown}");
    ensure!(shown.contains(&deployment.url()), "the URL is not shown:\n{shown}");
    let agents = deployment.pods(Component::Agent).await?;
    let nodes: BTreeSet<_> = agents.iter().map(|agent| &agent.node).collect();
    ensure!(agents.len() == 3 && nodes.len() == 3, "agents share a node: {agents:?}");
    for agent in &agents {
        ensure!(agent.restarts == 0, "{} was restarted", agent.name);
        let held = resident(&agent.address).await?;
        println!("{} on {} holds {held} of 80 experts", agent.name, agent.node);
        ensure!(held > 0.0 && held < 80.0, "{} holds {held} experts, not a part", agent.name);
    }
    Ok(())
}

async fn phase(deployment: &Deployment) -> Result<String> {
    waiting::until("a phase", Duration::from_secs(30), async || {
        let object = deployment.get().await?;
        object["status"]["phase"].as_str().map(str::to_owned).context("no phase yet")
    })
    .await
}

/// A stream with reasoning; the time since `applied` is what a newcomer waits for.
async fn first_token(deployment: &Deployment, applied: Instant) -> Result<()> {
    let (client, progress) = (deployment.client(), Progress::default());
    let asked = client.ask("What is 17 + 25?", &Sampling::Greedy, &progress);
    let seen = async {
        while progress.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, anyhow::Error>(applied.elapsed())
    };
    let (answer, seen) = tokio::try_join!(asked, seen)?;
    ensure!(!answer.reasoning.is_empty() && answer.content.contains("42"), "{answer:?}");
    println!("first token {:.1} s after kubectl apply", seen.as_secs_f64());
    Ok(())
}

/// Experts in memory, as the agent's own metrics say.
async fn resident(address: &str) -> Result<f64> {
    crate::client::Client::new(&format!("http://{address}:7071"), "")
        .metric("boyle_agent_experts_loaded")
        .await
}
