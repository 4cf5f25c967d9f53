//! What a scenario is given: a namespace of its own, the cluster's machines, traffic.

use super::deployment::Deployment;
use super::operator::Images;
use crate::Thoroughness;
use crate::client::Client;
use crate::kube;
use crate::traffic::random::Random;
use crate::traffic::{Load, Reconnects, Report, Target, Totals, Traffic, prompts};
use anyhow::{Context, Result, ensure};
use cluster::Cluster;
use serde_json::json;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

/// Streams that are open while something happens.
const STREAMS: usize = 20;
/// Different questions that they ask.
const PROMPTS: usize = 16;
/// Whole answers before and after what happens, so that it happens in the middle.
const ANSWERS_AROUND: u64 = 20;

/// The machines below the cluster.
#[derive(Debug)]
pub enum Power {
    Cluster(Cluster),
    /// A cluster that somebody else runs.
    None,
}

/// Where one scenario plays.
#[derive(Debug)]
pub struct Scene {
    pub namespace: String,
    pub seed: u64,
    pub thoroughness: Thoroughness,
    pub images: Images,
    pub power: Power,
    pub totals: Arc<Mutex<Totals>>,
}

impl Scene {
    /// A deployment of the embedded model on three agents with two copies of each expert and two routers, whole.
    ///
    /// # Errors
    /// When it does not become whole.
    pub async fn deployed(&self) -> Result<Deployment> {
        self.deployed_with(json!({})).await
    }

    /// As [`Self::deployed`], with fields of the spec replaced.
    ///
    /// # Errors
    /// As [`Self::deployed`].
    pub async fn deployed_with(&self, changes: serde_json::Value) -> Result<Deployment> {
        let deployment = self.applied(changes).await?;
        deployment.whole().await?;
        Ok(deployment)
    }

    /// As [`Self::deployed_with`], without waiting.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn applied(&self, changes: serde_json::Value) -> Result<Deployment> {
        let mut spec = json!({
            "model": {"source": "embedded://tiny-r1"},
            "agents": {"min": 3},
            "experts": {"copies": 2},
            "router": {"min": 2},
        });
        if let (Some(spec), Some(changes)) = (spec.as_object_mut(), changes.as_object()) {
            spec.extend(changes.clone());
        }
        Deployment::apply(&self.namespace, crate::deployment::MODEL, spec).await
    }

    /// The cluster's machines.
    ///
    /// # Errors
    /// When there are none to be had.
    pub fn machines(&self) -> Result<&Cluster> {
        match &self.power {
            Power::Cluster(cluster) => Ok(cluster),
            Power::None => anyhow::bail!("this cluster's machines are out of reach"),
        }
    }

    /// How often each thing happens.
    pub fn times(&self) -> usize {
        match self.thoroughness {
            Thoroughness::Full => 10,
            Thoroughness::Short => 1,
        }
    }

    /// Random numbers of this scenario.
    pub fn random(&self) -> Random {
        Random::new(self.seed, 0)
    }

    /// Traffic to a whole deployment; its answers are recorded first.
    ///
    /// # Errors
    /// When they cannot be.
    pub async fn traffic(&self, deployment: &Deployment) -> Result<Traffic> {
        let url = deployment.url();
        let client = Client::new(&url, &deployment.name);
        let prompts = prompts::record(&client, PROMPTS).await.context("recording answers")?;
        let target = Target::new(&url, &deployment.name)?;
        let traffic = Traffic::start(target, prompts, Load::streams(STREAMS, self.seed));
        traffic.flows(ANSWERS_AROUND).await?;
        Ok(traffic)
    }

    /// Lets something happen to a deployment while streams run, and demands that no client is harmed by it.
    ///
    /// # Errors
    /// When a client is, or when what happens fails; the report is in the error.
    pub async fn under_traffic<T>(
        &self,
        deployment: &Deployment,
        reconnects: Reconnects,
        happens: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let traffic = self.traffic(deployment).await?;
        let happened = happens.await;
        let flows = match &happened {
            Ok(_) => traffic.flows(ANSWERS_AROUND).await,
            Err(_) => Ok(()),
        };
        let report = traffic.stop().await;
        println!("{report}");
        let happened = happened.with_context(|| format!("clients saw:\n{report}"))?;
        flows?;
        self.demand(&report, reconnects)?;
        Ok(happened)
    }

    /// No client was harmed; what they saw is added to what all scenarios' clients did.
    ///
    /// # Errors
    /// As [`Report::demand`].
    pub fn demand(&self, report: &Report, reconnects: Reconnects) -> Result<()> {
        // A panic while it was held can have lost one report; the panic itself is seen.
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).add(report);
        report.demand(reconnects)
    }

    /// A second namespace, made and named after this one; it goes with it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn further_namespace(&self, suffix: &str) -> Result<String> {
        let name = format!("{}-{suffix}", self.namespace);
        make_namespace(&name).await?;
        Ok(name)
    }
}

/// A namespace that takes only pods without rights, as ours promise to be.
///
/// # Errors
/// When it exists already or cannot be made.
pub async fn make_namespace(name: &str) -> Result<()> {
    kube::kubectl(&["create", "namespace", name]).await?;
    let label = "pod-security.kubernetes.io/enforce=restricted";
    kube::kubectl(&["label", "namespace", name, label, "boyle-e2e=scenario"]).await?;
    ensure!(!name.is_empty(), "a namespace without a name");
    Ok(())
}
