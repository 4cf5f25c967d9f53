//! A control plane with Boyle's resource in it, and operators that run inside the test.

use super::pod::Machine;
use super::wait::until;
use cluster::ControlPlane;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, CustomResourceExt};
use operator::metrics::Metrics;
use operator::prices::Prices;
use operator::render::MonitoringLabels;
use operator::run::Operator;
use operator::settings::{Settings, Transport, WatchScope};
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::layer::util::Identity;

/// A control plane, the resource, and a folder for pods.
pub struct Plane {
    pub folder: TempDir,
    pub config: Config,
    pub client: Client,
    _plane: ControlPlane,
}

impl Plane {
    pub async fn start() -> Self {
        // `RUST_LOG=operator=debug` shows what the operator does; the first test of a process sets it up for all.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plane = tokio::task::spawn_blocking(ControlPlane::start);
        let plane = plane.await.unwrap().expect("the control plane starts");
        let kubeconfig = Kubeconfig::read_from(plane.kubeconfig()).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        let client = Client::try_from(config.clone()).unwrap();
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let definition = crds::ModelDeployment::crd();
        definitions
            .create(&PostParams::default(), &definition)
            .await
            .expect("the resource is taken");
        until("the resource is served", || async {
            let found = super::deployment::api(&client).list(&ListParams::default()).await;
            found.map(drop).map_err(|error| error.to_string())
        })
        .await;
        Self { folder: tempfile::tempdir().unwrap(), config, client, _plane: plane }
    }

    /// Where pods run.
    pub fn machine(&self) -> Machine {
        Machine { boyle: boyle(), folder: self.folder.path().to_owned() }
    }

    /// Starts an operator.
    pub fn operator(&self, name: &str) -> Running {
        let settings = settings(name);
        let operator = Operator::new(settings, self.config.clone(), &Identity::new());
        Running::start(operator.expect("an operator"))
    }
}

/// Settings of an operator inside a test.
pub fn settings(name: &str) -> Settings {
    Settings {
        namespace: "default".to_owned(),
        pod_name: name.to_owned(),
        scope: WatchScope::Cluster,
        serving_image: "boyle/serving:test".to_owned(),
        http_listen: ([127, 0, 0, 1], 0).into(),
        prices: Prices::default(),
        monitoring_labels: MonitoringLabels::default(),
        transport: Transport::Plaintext,
    }
}

/// An operator that runs until it is stopped or killed.
pub struct Running {
    pub metrics: Metrics,
    task: JoinHandle<()>,
    shutdown: oneshot::Sender<()>,
}

impl Running {
    pub fn start(operator: Operator) -> Self {
        let metrics = operator.metrics().clone();
        let (shutdown, asked) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = asked.await;
            };
            operator.run(stopped).await.expect("the operator ends in good order");
        });
        Self { metrics, task, shutdown }
    }

    /// As SIGTERM does.
    pub async fn stop(self) {
        let _ = self.shutdown.send(());
        self.task.await.expect("the operator's task ends");
    }

    /// As SIGKILL does: at once, and without giving anything back.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// The program that pods run: `BOYLE_BINARY`, or the one that cargo built beside this test.
fn boyle() -> PathBuf {
    if let Some(path) = std::env::var_os("BOYLE_BINARY") {
        return path.into();
    }
    let mut path = std::env::current_exe().expect("this test has a path");
    path.pop();
    path.pop();
    path.join("boyle")
}
