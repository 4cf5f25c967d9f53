//! Processes die as they do when the kernel runs out of memory.

use crate::scenario::{Component, Deployment, Pod, SYSTEM, name_of};
use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::traffic::Reconnects;
use crate::traffic::random::Random;
use crate::{kube, waiting};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

pub const SCENARIO: Scenario = Scenario {
    name: "kill-processes",
    summary: "agents, routers and the operator are killed with SIGKILL at random moments",
    needs: Needs::Machines,
    length: Length::Short,
    play: |scene| Box::pin(play(scene)),
};

/// Between two kills: sometimes during the recovery from the last one, sometimes after it.
const PAUSE_LEAST: Duration = Duration::from_millis(500);
const PAUSE_MOST: Duration = Duration::from_secs(12);
/// Kubernetes lets a container that ended often wait for up to five minutes.
const BACK_WAIT: Duration = Duration::from_secs(330);

async fn play(scene: &Scene) -> Result<()> {
    let deployment = scene.deployed().await?;
    // The second one may meet the recovery from the first.
    let times = scene.times().max(2);
    let mut random = scene.random();
    for (what, reconnects) in [
        ("agent", Reconnects::Forbidden),
        ("operator", Reconnects::Forbidden),
        // It takes its connections along.
        ("router", Reconnects::Allowed),
    ] {
        println!("-- {times} times the {what}");
        let kills = kill(scene, &deployment, what, times, &mut random);
        scene.under_traffic(&deployment, reconnects, kills).await?;
        deployment.recovered().await?;
    }
    Ok(())
}

async fn kill(
    scene: &Scene,
    deployment: &Deployment,
    what: &str,
    times: usize,
    random: &mut Random,
) -> Result<()> {
    for time in 0..times {
        if time > 0 {
            tokio::time::sleep(random.between(PAUSE_LEAST, PAUSE_MOST)).await;
            // With two copies, two agents at once would be one too many.
            deployment.whole().await?;
        }
        let component = match what {
            "agent" => Component::Agent,
            "router" => Component::Router,
            _ => {
                let running = waiting::until("a running operator", BACK_WAIT, operators).await?;
                let pod = &running[random.below(running.len())];
                println!("killing {pod}");
                scene.machines()?.kill_pod(SYSTEM, pod)?;
                continue;
            }
        };
        let pods = deployment.pods(component).await?;
        let pod = pods.get(random.below(pods.len())).with_context(|| format!("no {what}"))?;
        println!("killing {}", pod.name);
        scene.machines()?.kill_pod(&deployment.namespace, &pod.name)?;
        until_seen(deployment, component, pod).await?;
        if component == Component::Router {
            // A Service without any router refuses its clients, whatever Boyle does.
            deployment.until_balanced().await?;
        }
    }
    Ok(())
}

/// Waits until Kubernetes has noticed: until then, everything still looks whole.
async fn until_seen(deployment: &Deployment, component: Component, killed: &Pod) -> Result<()> {
    waiting::until("the killed process's next start", BACK_WAIT, async || {
        let pods = deployment.pods(component).await?;
        let same = pods.iter().find(|pod| pod.uid == killed.uid);
        ensure!(same.is_none_or(|pod| pod.restarts > killed.restarts), "it has not been restarted");
        Ok(())
    })
    .await
}

/// Those that run: whoever was killed a few times waits for its next start.
async fn operators() -> Result<Vec<String>> {
    let arguments = ["get", "pods", "--namespace", SYSTEM];
    let list = kube::json(&arguments).await?;
    let pods = list["items"].as_array().into_iter().flatten();
    let runs = |pod: &&Value| pod.pointer("/status/containerStatuses/0/state/running").is_some();
    let running: Vec<String> = pods.filter(runs).map(name_of).collect();
    ensure!(!running.is_empty(), "none runs");
    Ok(running)
}
