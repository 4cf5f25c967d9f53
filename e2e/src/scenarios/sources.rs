//! Every kind of source gives the same answers.

use crate::scenario::{Length, Needs, Scenario, Scene};
use crate::storage::{self, COMMIT, REPOSITORY, Storage};
use crate::traffic::prompts::is_same;
use crate::{evaluation, kube, repository};
use anyhow::{Result, ensure};
use cluster::image::{Image, Layer};
use serde_json::json;
use std::time::Instant;

pub const SCENARIO: Scenario = Scenario {
    name: "sources",
    summary: "the model comes from a hub, a bucket, an image and a volume",
    needs: Needs::Machines,
    length: Length::Long,
    play: |scene| Box::pin(play(scene)),
};

const IMAGE: &str = "boyle.local/tiny-r1:e2e";
/// Permissions of its files.
const READABLE: u32 = 0o644;

async fn play(scene: &Scene) -> Result<()> {
    let storage = Storage::start().await?;
    secret(scene).await?;
    volume(scene).await?;
    image(scene)?;
    let (hub, bucket) = (format!("hf://{REPOSITORY}"), format!("s3://models/{REPOSITORY}"));
    for model in [
        json!({"source": hub, "revision": "main", "endpoint": storage.url, "secretName": "access"}),
        json!({"source": bucket, "endpoint": storage.url, "secretName": "access"}),
        json!({"source": format!("oci://{IMAGE}")}),
        json!({"source": "pvc://model/"}),
    ] {
        let since = Instant::now();
        let source = model["source"].clone();
        println!("-- {source}");
        let deployment = scene.deployed_with(json!({"model": model})).await?;
        println!("whole after {:.1} s", since.elapsed().as_secs_f64());
        let question = evaluation::questions()?.swap_remove(0);
        let answer = deployment.ask(&question.question).await?;
        ensure!(is_same(&question, &answer), "{source}: {answer:?}");
        let status = deployment.get().await?["status"]["model"].clone();
        let commit = if source == hub { COMMIT } else { "" };
        let found = status["revision"].as_str().unwrap_or_default();
        ensure!(found.starts_with(commit), "the status has revision {found:?}: {status}");
        deployment.delete().await?;
    }
    Ok(())
}

async fn secret(scene: &Scene) -> Result<()> {
    let data = json!({
        "HF_TOKEN": "hf_secret", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-central-1",
    });
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "access"}, "stringData": data,
    });
    kube::apply(&scene.namespace, &object).await.map(drop)
}

/// A claim of a folder that every node has.
async fn volume(scene: &Scene) -> Result<()> {
    let (name, folder) = (scene.namespace.clone(), repository().join("models/tiny-r1"));
    let spec = json!({"accessModes": ["ReadOnlyMany"], "storageClassName": ""});
    let mut volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": folder.canonicalize()?},
            "claimRef": {"namespace": scene.namespace, "name": "model"},
        },
    });
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "model"},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": name},
    });
    // An earlier run may have left it, bound to a claim that is gone.
    let left = ["delete", "persistentvolume", "--ignore-not-found", &name];
    kube::kubectl_waiting(&left).await?;
    for object in [&mut volume, &mut claim] {
        if let (Some(object), Some(spec)) = (object["spec"].as_object_mut(), spec.as_object()) {
            object.extend(spec.clone());
        }
    }
    for object in [&volume, &claim] {
        kube::apply(&scene.namespace, object).await?;
    }
    Ok(())
}

fn image(scene: &Scene) -> Result<()> {
    let mut layer = Layer::default();
    for (name, content) in storage::model_files()? {
        layer = layer.content(&name, content.to_vec(), READABLE);
    }
    let image = Image {
        reference: IMAGE.to_owned(),
        layers: vec![layer],
        entrypoint: Vec::new(),
        environment: Vec::new(),
        labels: Vec::new(),
    };
    let tar = tempfile::NamedTempFile::new()?;
    image.write(tar.path())?;
    Ok(scene.machines()?.load(tar.path())?)
}
