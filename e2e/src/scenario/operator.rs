//! The operator's release: installed with helm, once for all scenarios, put right before each.

use crate::{kube, repository};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// The operator's namespace and release.
pub const SYSTEM: &str = "boyle-system";
pub const RELEASE: &str = "boyle";

/// For the operator to be ready, as helm takes it.
const INSTALL_TIMEOUT: &str = "--timeout=120s";

/// Images that are on the cluster's nodes. Each next one has other bytes or another name than the first.
#[derive(Clone, Debug)]
pub struct Images {
    pub serving: String,
    pub next_serving: String,
    /// Its program ends at once.
    pub broken_serving: String,
    pub operator: String,
    pub next_operator: String,
}

/// The chart of this repository.
pub fn chart() -> PathBuf {
    repository().join("charts/boyle")
}

/// Installs the operator, or brings back the release that scenarios expect.
///
/// # Errors
/// When helm fails or the operator is not ready in time.
pub async fn install(images: &Images) -> Result<()> {
    install_with(&images.operator, &images.serving, &[]).await
}

/// As [`install`], with these images and further arguments of helm.
///
/// # Errors
/// As [`install`].
pub async fn install_with(operator: &str, serving: &str, further: &[&str]) -> Result<()> {
    let chart = chart().display().to_string();
    let mut values = Vec::new();
    for (key, image) in [("image", operator), ("servingImage", serving)] {
        let (repository, tag) = image.rsplit_once(':').context("an image without a tag")?;
        values.push(format!("--set={key}.repository={repository}"));
        values.push(format!("--set-string={key}.tag={tag}"));
    }
    let fixed = ["upgrade", "--install", RELEASE, &chart, "--namespace", SYSTEM];
    let fixed = [&fixed[..], &["--create-namespace", "--wait", INSTALL_TIMEOUT]].concat();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    kube::helm(&[&fixed[..], &values, further].concat()).await?;
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    kube::kubectl(&["label", "--overwrite", "namespace", SYSTEM, restricted]).await?;
    Ok(())
}

/// Takes the release away; what it leaves behind is for the caller to look at.
///
/// # Errors
/// When helm fails.
pub async fn uninstall() -> Result<()> {
    let which = ["uninstall", RELEASE, "--ignore-not-found", "--namespace", SYSTEM];
    kube::helm(&[&which[..], &["--wait", INSTALL_TIMEOUT]].concat()).await.map(drop)
}
