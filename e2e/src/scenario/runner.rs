//! Runs scenarios one after another on one cluster, in an order that the seed decides.

use super::operator::{self, Images};
use super::scene::{self, Power, Scene};
use super::{Length, Needs, Scenario, evidence};
use crate::traffic::Totals;
use crate::traffic::random::Random;
use crate::{Thoroughness, kube};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For one scenario, everything included: a wait without an end must not stop the others.
const SCENARIO_WAIT: Duration = Duration::from_secs(1800);
/// For a namespace to go, as kubectl takes it.
const GONE_TIMEOUT: &str = "--timeout=180s";

/// What to run, and where.
#[derive(Debug)]
pub struct Choice {
    /// Names; none means all that this cluster can do.
    pub names: Vec<String>,
    /// Only those that CI runs.
    pub short: bool,
    pub seed: u64,
    pub thoroughness: Thoroughness,
    pub images: Images,
    pub power: Power,
    /// Where failures leave their evidence.
    pub folder: PathBuf,
}

/// How one scenario went.
#[derive(Debug)]
pub struct Outcome {
    pub name: &'static str,
    pub took: Duration,
    pub result: Result<(), String>,
}

/// Runs what was chosen; a failure does not stop the others.
///
/// # Errors
/// When a name is unknown or the operator cannot be installed. A scenario's failure is in its outcome.
pub async fn run(all: &[Scenario], choice: Choice) -> Result<(Vec<Outcome>, Totals)> {
    let mut chosen = chosen(all, &choice)?;
    Random::new(choice.seed, 0).shuffle(&mut chosen);
    let Choice { seed, thoroughness, images, folder, mut power, .. } = choice;
    let mut outcomes = Vec::new();
    let totals = Arc::new(Mutex::new(Totals::default()));
    // A cluster that was kept may run an older image of the same name.
    operator::uninstall().await.context("removing what an earlier run left")?;
    for scenario in chosen {
        operator::install(&images).await.context("installing the operator")?;
        println!("\n=== {}: {}", scenario.name, scenario.summary);
        let started = Instant::now();
        let namespace = format!("e2e-{}", scenario.name);
        let images = images.clone();
        let totals = Arc::clone(&totals);
        let scene = Scene { namespace, seed, thoroughness, images, power, totals };
        let result = play(&scenario, &scene, &folder).await;
        power = scene.power;
        let took = started.elapsed();
        match &result {
            Ok(()) => println!("=== {} passed in {:.0} s", scenario.name, took.as_secs_f64()),
            Err(error) => println!("=== {} FAILED: {error}", scenario.name),
        }
        outcomes.push(Outcome { name: scenario.name, took, result });
    }
    let totals = totals.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((outcomes, totals))
}

fn chosen(all: &[Scenario], choice: &Choice) -> Result<Vec<Scenario>> {
    for name in &choice.names {
        if !all.iter().any(|scenario| scenario.name == name) {
            let names: Vec<_> = all.iter().map(|scenario| scenario.name).collect();
            bail!("there is no scenario {name:?}; there are {}", names.join(", "));
        }
    }
    let (able, unable): (Vec<Scenario>, Vec<Scenario>) = all
        .iter()
        .filter(|scenario| match choice.names.is_empty() {
            true => !choice.short || scenario.length == Length::Short,
            false => choice.names.iter().any(|name| name == scenario.name),
        })
        .partition(|scenario| {
            scenario.needs == Needs::Nothing || matches!(choice.power, Power::Cluster(_))
        });
    for scenario in unable {
        println!("left out: {} needs the cluster's machines", scenario.name);
    }
    Ok(able)
}

/// One scenario from an empty namespace to none.
async fn play(scenario: &Scenario, scene: &Scene, folder: &std::path::Path) -> Result<(), String> {
    clean(&scene.namespace).await.map_err(|error| format!("{error:#}"))?;
    let played = async {
        scene::make_namespace(&scene.namespace).await?;
        let playing = tokio::time::timeout(SCENARIO_WAIT, (scenario.play)(scene));
        playing.await.with_context(|| format!("over {} s", SCENARIO_WAIT.as_secs()))?
    };
    let mut result = played.await;
    if let Err(error) = &result {
        let folder = folder.join(scenario.name);
        let warnings = evidence::warnings(&scene.namespace).await;
        let kept = evidence::keep(&folder, &scene.namespace, error).await;
        let place = match kept {
            Ok(()) => format!("logs, events and objects are in {}", folder.display()),
            Err(error) => format!("the evidence could not be kept: {error:#}"),
        };
        let told = format!("{error:#}\nwarnings of the namespace:\n{warnings}\n{place}");
        result = Err(anyhow::Error::msg(told));
    }
    let cleaned = clean(&scene.namespace).await;
    result.and(cleaned).map_err(|error| format!("{error:#}"))
}

/// Removes what a scenario made, or an earlier run of it left.
async fn clean(namespace: &str) -> Result<()> {
    let namespaces = kube::json(&["get", "namespaces", "--selector=boyle-e2e=scenario"]).await?;
    for item in namespaces["items"].as_array().into_iter().flatten() {
        let name = super::name_of(item);
        let further = name.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('-'));
        if name != namespace && !further {
            continue;
        }
        // Before the namespace, so that the operator cleans up while its service account still may.
        let all = ["delete", "modeldeployments", "--all", "--namespace", &name, GONE_TIMEOUT];
        kube::kubectl_waiting(&all).await?;
        // The namespace's controller looks again only after half of the longest grace period of a pod that it saw.
        let pods = ["wait", "--for=delete", "pods", "--all", "--namespace", &name, GONE_TIMEOUT];
        kube::kubectl_waiting(&pods).await?;
        kube::kubectl_waiting(&["delete", "namespace", &name, GONE_TIMEOUT]).await?;
    }
    Ok(())
}
