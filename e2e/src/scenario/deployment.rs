//! A ModelDeployment, as kubectl shows it.

use crate::client::{Answer, Client, Progress, Sampling, served_model};
use crate::{kube, waiting};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// For a deployment to become whole: images are on the nodes, the model is small, the machine has two cores.
pub const WHOLE_WAIT: Duration = Duration::from_secs(180);
/// For kube-proxy, which waits a second between two changes.
const SERVICE_WAIT: Duration = Duration::from_secs(5);
/// For every router to start again: Kubernetes lets a container that ended often wait for up to five minutes.
const BALANCED_WAIT: Duration = Duration::from_secs(330);
/// Twice as long as kube-proxy waits between two changes.
const PROXY_LAG: Duration = Duration::from_secs(2);
/// For a rolling change of a whole deployment: agents go one after another, each drained first.
pub const ROLL_WAIT: Duration = Duration::from_secs(420);

/// A deployment of one namespace.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub namespace: String,
    pub name: String,
}

/// A kind of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    Agent,
    Router,
}

impl Component {
    fn label(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Router => "router",
        }
    }
}

/// What matters of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub node: String,
    pub address: String,
    pub image: String,
    pub ready: bool,
    /// Restarts of all its containers.
    pub restarts: u64,
}

impl Deployment {
    /// Creates or changes it.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply(namespace: &str, name: &str, spec: Value) -> Result<Self> {
        let object = json!({
            "apiVersion": "boyle.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": name},
            "spec": spec,
        });
        kube::apply(namespace, &object).await?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Changes fields of the spec.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn change(&self, spec: Value) -> Result<()> {
        kube::patch(&self.namespace, &self.object(), &json!({"spec": spec})).await.map(drop)
    }

    /// # Errors
    /// When it is still there after a while.
    pub async fn delete(&self) -> Result<()> {
        let arguments =
            ["delete", "--namespace", &self.namespace, &self.object(), "--timeout=180s"];
        kube::kubectl_waiting(&arguments).await.map(drop)
    }

    fn object(&self) -> String {
        format!("modeldeployment/{}", self.name)
    }

    /// Where clients inside the cluster send requests.
    pub fn url(&self) -> String {
        format!("http://{}.{}.svc", self.name, self.namespace)
    }

    pub fn client(&self) -> Client {
        Client::new(&self.url(), &self.name)
    }

    /// One greedy answer.
    ///
    /// # Errors
    /// When none comes.
    pub async fn ask(&self, question: &str) -> Result<Answer> {
        self.client().ask(question, &Sampling::Greedy, &Progress::default()).await
    }

    // -- what it says

    /// # Errors
    /// When there is no such object.
    pub async fn get(&self) -> Result<Value> {
        kube::json(&["get", "--namespace", &self.namespace, &self.object()]).await
    }

    /// A condition's status, reason and message, as far as it is there.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn condition(&self, kind: &str) -> Result<(String, String, String)> {
        Ok(condition(&self.get().await?, kind))
    }

    /// Waits until `wanted` holds of the object.
    ///
    /// # Errors
    /// When it is not so in time; with the status then.
    pub async fn until(
        &self,
        what: &str,
        wait: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        waiting::until(what, wait, async || {
            let object = self.get().await?;
            ensure!(wanted(&object), "status {}", object["status"]);
            Ok(object)
        })
        .await
    }

    /// Waits until the spec as it is now is fulfilled: every agent, copy and router.
    ///
    /// # Errors
    /// When it is not so in time.
    pub async fn whole(&self) -> Result<Value> {
        let object = self.until("a whole deployment", WHOLE_WAIT, is_whole).await?;
        self.reachable().await?;
        Ok(object)
    }

    /// Waits until the Service sends requests on: nodes learn of its first ready pod a little later than the API
    /// server.
    ///
    /// # Errors
    /// When it takes longer than that.
    pub async fn reachable(&self) -> Result<()> {
        waiting::until("the Service to send requests on", SERVICE_WAIT, async || {
            served_model(&self.url()).await.map(drop)
        })
        .await
    }

    /// As [`Self::whole`], after a change that replaces agents.
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub async fn rolled(&self) -> Result<Value> {
        self.until("the end of the rolling change", ROLL_WAIT, is_whole).await
    }

    /// Waits until it is so and says how long that took.
    ///
    /// # Errors
    /// As [`Self::whole`].
    pub async fn recovered(&self) -> Result<()> {
        let since = Instant::now();
        self.whole().await?;
        println!("whole again after {:.1} s", since.elapsed().as_secs_f64());
        Ok(())
    }

    // -- its pods

    /// Those that are not on their way out, by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pods(&self, component: Component) -> Result<Vec<Pod>> {
        let selector = format!(
            "boyle.dev/model-deployment={},app.kubernetes.io/component={}",
            self.name,
            component.label()
        );
        let arguments = ["get", "pods", "--namespace", &self.namespace, "--selector", &selector];
        let list = kube::json(&arguments).await?;
        let pods = list["items"].as_array().context("a list of pods without items")?;
        let alive = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(alive.map(Pod::read).collect())
    }

    /// Waits until the Service sends requests to every router.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn until_balanced(&self) -> Result<()> {
        let selector = format!("kubernetes.io/service-name={}", self.name);
        waiting::until("every router behind the Service", BALANCED_WAIT, async || {
            let routers = self.pods(Component::Router).await?.len();
            let arguments =
                ["get", "endpointslices", "--namespace", &self.namespace, "--selector", &selector];
            let list = kube::json(&arguments).await?;
            let slices = list["items"].as_array().into_iter().flatten();
            let endpoints = slices.filter_map(|slice| slice["endpoints"].as_array()).flatten();
            let ready =
                endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count();
            ensure!(ready == routers, "{ready} of {routers} routers are ready");
            Ok(())
        })
        .await?;
        // Proxies learn it a moment later.
        tokio::time::sleep(PROXY_LAG).await;
        Ok(())
    }

    /// # Errors
    /// As [`Self::pods`].
    pub async fn uids(&self, component: Component) -> Result<BTreeSet<String>> {
        Ok(self.pods(component).await?.into_iter().map(|pod| pod.uid).collect())
    }

    /// Takes a pod away at once, as an administrator in a hurry.
    ///
    /// # Errors
    /// When there is no such pod.
    pub async fn delete_pod(&self, pod: &str, how: &[&str]) -> Result<()> {
        let arguments = ["delete", "pod", "--wait=false", "--namespace", &self.namespace, pod];
        kube::kubectl(&[&arguments[..], how].concat()).await.map(drop)
    }

    /// Waits until a pod is gone and the deployment whole without it.
    ///
    /// # Errors
    /// When it is not so in time.
    pub async fn until_replaced(&self, component: Component, uid: &str) -> Result<()> {
        waiting::until("the pod's end", WHOLE_WAIT, async || {
            ensure!(!self.uids(component).await?.contains(uid), "it is still there");
            Ok(())
        })
        .await?;
        self.recovered().await
    }

    /// Waits until there are so many pods.
    ///
    /// # Errors
    /// When it is not so in time.
    pub async fn until_count(&self, component: Component, count: usize) -> Result<()> {
        waiting::until(&format!("{count} pods"), WHOLE_WAIT, async || {
            let pods = self.pods(component).await?;
            ensure!(pods.len() == count, "{pods:?}");
            Ok(())
        })
        .await
    }

    /// Agents on a node.
    ///
    /// # Errors
    /// As [`Self::pods`].
    pub async fn by_node(&self) -> Result<BTreeMap<String, Vec<Pod>>> {
        let mut nodes: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
        for pod in self.pods(Component::Agent).await? {
            nodes.entry(pod.node.clone()).or_default().push(pod);
        }
        Ok(nodes)
    }
}

impl Pod {
    fn read(pod: &Value) -> Self {
        let text = |pointer: &str| {
            pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
        let statuses = statuses.into_iter().flatten();
        let (kind, _, _) = condition(pod, "Ready");
        Self {
            name: name_of(pod),
            uid: text("/metadata/uid"),
            node: text("/spec/nodeName"),
            address: text("/status/podIP"),
            image: text("/spec/containers/0/image"),
            ready: kind == "True",
            restarts: statuses.filter_map(|status| status["restartCount"].as_u64()).sum(),
        }
    }
}

/// An object's name.
pub fn name_of(object: &Value) -> String {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A condition's status, reason and message; empty when it is not there.
pub fn condition(object: &Value, kind: &str) -> (String, String, String) {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    let text =
        |key: &str| found.and_then(|found| found[key].as_str()).unwrap_or_default().to_owned();
    (text("status"), text("reason"), text("message"))
}

/// The present spec is fulfilled.
pub fn is_whole(object: &Value) -> bool {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64);
    let same = |a: &str, b: &str| number(a).is_some() && number(a) == number(b);
    object.pointer("/status/phase").and_then(Value::as_str) == Some("Available")
        && same("/status/observedGeneration", "/metadata/generation")
        && same("/status/agents/ready", "/status/agents/desired")
        && same("/status/routers/ready", "/status/routers/desired")
        && number("/status/experts/missing") == Some(0)
        && number("/status/experts/copies") >= number("/spec/experts/copies")
}
