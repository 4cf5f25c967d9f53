//! How the operator bears many deployments: `cargo run --release -p operator --example many_deployments -- 1000`.
//!
//! Starts a control plane without nodes and the operator beside it, creates deployments, and prints how long each took
//! from its creation to its objects, then what the operator costs while nothing happens.

use anyhow::{Context, Result, bail};
use cluster::ControlPlane;
use crds::ModelDeployment;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PartialObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Config, CustomResourceExt, ResourceExt};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// How long the quiet is watched.
const QUIET: Duration = Duration::from_secs(60);
/// Creations on their way at once.
const CREATORS: usize = 8;
/// All objects of all deployments.
const PATIENCE: Duration = Duration::from_secs(600);
const HTTP: &str = "127.0.0.1:18081";
/// Clock ticks of /proc in a second; fixed by the kernel's interface.
const TICKS: f64 = 100.0;

#[tokio::main]
async fn main() -> Result<()> {
    let count: usize = std::env::args().nth(1).context("say how many deployments")?.parse()?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let plane = tokio::task::spawn_blocking(ControlPlane::start).await??;
    let kubeconfig = plane.kubeconfig();
    let config = Kubeconfig::read_from(&kubeconfig)?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.create(&PostParams::default(), &ModelDeployment::crd()).await?;
    let operator = Operator::start(&kubeconfig)?;
    let began = create(&client, count).await?;
    let took = objects(&client, began).await?;
    report("creation to StatefulSet and Deployment", took);
    println!("after creation: {}", operator.usage()?);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (before, cpu) = (operator.requests().await?, operator.cpu()?);
    tokio::time::sleep(QUIET).await;
    let (after, cpu_after) = (operator.requests().await?, operator.cpu()?);
    println!(
        "quiet for {} s: {:.2} s of CPU, {}",
        QUIET.as_secs(),
        cpu_after - cpu,
        operator.usage()?
    );
    for (request, now) in &after {
        let more = now - before.get(request).unwrap_or(&0.0);
        if more > 0.0 {
            println!("  {more} × {request}");
        }
    }
    Ok(())
}

/// Creates them, and says when each was taken.
async fn create(client: &Client, count: usize) -> Result<BTreeMap<String, Instant>> {
    let api: Api<ModelDeployment> = Api::namespaced(client.clone(), "default");
    let creations = futures::stream::iter(0..count).map(|number| {
        let api = api.clone();
        async move {
            let name = format!("bench-{number}");
            let deployment: ModelDeployment = serde_json::from_value(json!({
                "apiVersion": "boyle.dev/v1alpha1", "kind": "ModelDeployment",
                "metadata": {"name": name}, "spec": {"model": {"source": "embedded://tiny-r1"}},
            }))?;
            api.create(&PostParams::default(), &deployment).await?;
            anyhow::Ok((name, Instant::now()))
        }
    });
    let created: Vec<Result<(String, Instant)>> =
        creations.buffer_unordered(CREATORS).collect().await;
    created.into_iter().collect()
}

/// Waits for the last object of each.
async fn objects(client: &Client, began: BTreeMap<String, Instant>) -> Result<Vec<Duration>> {
    let sets: Api<PartialObjectMeta<StatefulSet>> = Api::namespaced(client.clone(), "default");
    let routers: Api<PartialObjectMeta<Deployment>> = Api::namespaced(client.clone(), "default");
    let config = watcher::Config::default();
    let sets = watcher::watcher(sets, config.clone()).map(|event| event.map(names));
    let routers = watcher::watcher(routers, config).map(|event| event.map(names));
    let mut events = Box::pin(futures::stream::select(sets, routers));
    let mut missing: BTreeMap<String, usize> = began.keys().map(|name| (name.clone(), 2)).collect();
    let mut took = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while took.len() < began.len() {
        let event = tokio::time::timeout_at(deadline, events.next()).await;
        let Some(event) = event.context("objects are missing")? else { bail!("the watch ended") };
        let Some(name) = event? else { continue };
        let Some(left) = missing.get_mut(&name) else { continue };
        *left = left.saturating_sub(1);
        if *left == 0 {
            missing.remove(&name);
            took.extend(began.get(&name).map(Instant::elapsed));
        }
    }
    Ok(took)
}

/// The deployment whose object has just appeared.
fn names<K: ResourceExt>(event: Event<K>) -> Option<String> {
    match event {
        Event::InitApply(object) | Event::Apply(object) if object.resource_version().is_some() => {
            // Later changes count as well; the deployment's two objects are what is waited for first.
            object.labels().get("boyle.dev/model-deployment").cloned()
        }
        Event::InitApply(_)
        | Event::Apply(_)
        | Event::Delete(_)
        | Event::Init
        | Event::InitDone => None,
    }
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
    let last = took.last().copied().unwrap_or_default();
    println!("{} × {what}: p50 {:?}, p99 {:?}, last {last:?}", took.len(), at(50), at(99));
}

/// The operator as a process of its own.
struct Operator {
    child: Child,
}

impl Operator {
    fn start(kubeconfig: &PathBuf) -> Result<Self> {
        let mut path = std::env::current_exe()?;
        path.pop();
        path.pop();
        let child = Command::new(path.join("boyle-operator"))
            .arg("run")
            .env("KUBECONFIG", kubeconfig)
            .env("BOYLE_NAMESPACE", "default")
            .env("BOYLE_POD_NAME", "bench")
            .env("BOYLE_SERVING_IMAGE", "boyle/serving:bench")
            .env("BOYLE_HTTP_LISTEN", HTTP)
            .env("BOYLE_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .context("build it first: cargo build --release -p operator")?;
        Ok(Self { child })
    }

    fn proc(&self, file: &str) -> Result<String> {
        Ok(std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?)
    }

    /// Seconds of CPU so far.
    fn cpu(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        let rest = stat.rsplit_once(')').context("no stat")?.1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|it| it.parse::<f64>().ok());
        Ok((ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS)
    }

    fn usage(&self) -> Result<String> {
        let status = self.proc("status")?;
        let lines =
            status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
        let memory: Vec<String> = lines.map(|line| line.replace('\t', " ")).collect();
        Ok(format!("{}, {:.2} s of CPU", memory.join(", "), self.cpu()?))
    }

    /// Requests to the API server so far.
    async fn requests(&self) -> Result<BTreeMap<String, f64>> {
        let text = get(HTTP, "/metrics").await?;
        let lines =
            text.lines().filter(|line| line.starts_with("boyle_operator_api_requests_total"));
        let pairs = lines.filter_map(|line| {
            let (labels, value) = line.rsplit_once(' ')?;
            Some((labels.to_owned(), value.parse().ok()?))
        });
        Ok(pairs.collect())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn get(address: &str, path: &str) -> Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
