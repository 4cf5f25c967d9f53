//! Flags and environment → [`Settings`], once. Knows no cluster.

use crate::prices::{Prices, PricesError};
use crate::render::MonitoringLabels;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The program's command line.
#[derive(Debug, Parser)]
#[command(name = "boyle-operator", version, about = "Keeps ModelDeployments as they say.")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watches ModelDeployments and serves them until a signal comes.
    Run(RunArguments),
    /// Says whether an installation works: the resource is served, and a replica acts. Changes nothing.
    Check(CheckArguments),
}

/// Which installation is checked.
#[derive(Clone, Debug, Args)]
pub struct CheckArguments {
    /// The operator's namespace.
    #[arg(long, env = "BOYLE_NAMESPACE", value_parser = dns_label)]
    pub namespace: String,
    /// The one namespace that it watches; empty when it watches all.
    #[arg(long, env = "BOYLE_WATCH_NAMESPACE", default_value = "", value_parser = watch_scope)]
    pub watch_namespace: WatchScope,
}

/// Where the operator stands and what it serves with.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// The operator's own namespace: its Lease and the certificate authority are there.
    #[arg(long, env = "BOYLE_NAMESPACE", value_parser = dns_label)]
    namespace: String,
    /// Name of this replica, unique among them.
    #[arg(long, env = "BOYLE_POD_NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pod_name: String,
    /// The one namespace to watch; empty watches all.
    #[arg(long, env = "BOYLE_WATCH_NAMESPACE", default_value = "", value_parser = watch_scope)]
    watch_namespace: WatchScope,
    /// Image of agents and routers for deployments that name none.
    #[arg(long, env = "BOYLE_SERVING_IMAGE", value_parser = image)]
    serving_image: String,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "BOYLE_HTTP_LISTEN", default_value = "0.0.0.0:8081")]
    http_listen: SocketAddr,
    /// Table of other APIs' list prices; without it nothing is compared.
    #[arg(long, env = "BOYLE_PRICES_FILE")]
    prices_file: Option<PathBuf>,
    /// Labels of ServiceMonitors and PrometheusRules: `name=value,name=value`.
    #[arg(long, env = "BOYLE_MONITORING_LABELS", default_value = "", value_parser = labels)]
    monitoring_labels: MonitoringLabelList,
    /// Filter of the log, as in RUST_LOG.
    #[arg(long, env = "BOYLE_LOG", default_value = "info,kube_client=off,tower=off")]
    log: String,
}

/// What [`run`](crate::run) needs, all of it checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub namespace: String,
    pub pod_name: String,
    pub scope: WatchScope,
    pub serving_image: String,
    pub http_listen: SocketAddr,
    pub prices: Prices,
    pub monitoring_labels: MonitoringLabels,
    /// Whether agents and routers are met with mutual TLS; tests with processes on loopback go without.
    pub transport: Transport,
}

/// Which ModelDeployments are this operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchScope {
    Cluster,
    Namespace(String),
}

/// How agents and routers are talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    MutualTls,
    Plaintext,
}

impl RunArguments {
    /// The log filter; separate because logging begins before anything else.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Everything else.
    ///
    /// # Errors
    /// [`PricesError`] when the table of prices cannot be used.
    pub fn into_settings(self) -> Result<Settings, PricesError> {
        // No `..`: a new flag must not be forgotten here.
        let Self {
            namespace,
            pod_name,
            watch_namespace,
            serving_image,
            http_listen,
            prices_file,
            monitoring_labels,
            log: _,
        } = self;
        let prices = prices_file.as_deref().map(Prices::read).transpose()?;
        Ok(Settings {
            namespace,
            pod_name,
            scope: watch_namespace,
            serving_image,
            http_listen,
            prices: prices.unwrap_or_default(),
            monitoring_labels: monitoring_labels.0,
            transport: Transport::MutualTls,
        })
    }
}

/// A list of labels as one flag; clap takes a bare collection for many flags.
#[derive(Clone, Debug, Default)]
struct MonitoringLabelList(MonitoringLabels);

fn labels(text: &str) -> Result<MonitoringLabelList, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("write name=value,name=value instead of {pair:?}"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    pairs.map(pair).collect::<Result<_, String>>().map(MonitoringLabelList)
}

fn watch_scope(text: &str) -> Result<WatchScope, String> {
    if text.is_empty() {
        return Ok(WatchScope::Cluster);
    }
    dns_label(text).map(WatchScope::Namespace)
}

fn dns_label(text: &str) -> Result<String, String> {
    let allowed = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    let good = !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if good {
        Ok(text.to_owned())
    } else {
        Err("write the name of a namespace: up to 63 lower-case letters, digits and hyphens"
            .to_owned())
    }
}

fn image(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err("write an image reference, registry/name:tag for example".to_owned());
    }
    Ok(text.to_owned())
}
