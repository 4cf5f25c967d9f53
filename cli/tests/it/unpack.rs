//! The embedded model on disk is whole or not there.

use cli::embedded::MODELS;
use node_agent::embedded::{EmbeddedModel, ModelFile};
use std::path::Path;

static SMALL: [ModelFile; 2] = [
    ModelFile { name: "config.json", bytes: b"{}" },
    ModelFile { name: "model.safetensors", bytes: b"weights" },
];

static SMALL_MODEL: EmbeddedModel = EmbeddedModel { name: "small", files: &SMALL };

fn assert_whole(folder: &Path, files: &[ModelFile]) {
    for file in files {
        let found = std::fs::read(folder.join(file.name)).unwrap();
        assert!(found == file.bytes, "{} differs", file.name);
    }
}

#[test]
fn the_whole_model_is_unpacked_once() {
    let models = tempfile::tempdir().unwrap();
    let folder = MODELS[0].unpack(models.path()).unwrap();
    assert_whole(&folder, MODELS[0].files);
    let written =
        |folder: &Path| folder.join("config.json").metadata().unwrap().modified().unwrap();
    let before = written(&folder);
    assert_eq!(MODELS[0].unpack(models.path()).unwrap(), folder);
    assert_eq!(written(&folder), before, "nothing is written a second time");
}

#[test]
fn another_content_has_another_folder() {
    let models = tempfile::tempdir().unwrap();
    let one = SMALL_MODEL.unpack(models.path()).unwrap();
    static CHANGED: [ModelFile; 2] =
        [SMALL[0], ModelFile { name: SMALL[1].name, bytes: b"heavier" }];
    let other = EmbeddedModel { files: &CHANGED, ..SMALL_MODEL }.unpack(models.path()).unwrap();
    assert_ne!(one, other);
    assert_whole(&one, &SMALL);
    assert_whole(&other, &CHANGED);
}

#[test]
fn a_damaged_folder_is_replaced() {
    let models = tempfile::tempdir().unwrap();
    let folder = SMALL_MODEL.unpack(models.path()).unwrap();
    std::fs::write(folder.join("model.safetensors"), b"wei").unwrap();
    assert_eq!(SMALL_MODEL.unpack(models.path()).unwrap(), folder);
    assert_whole(&folder, &SMALL);
    std::fs::remove_file(folder.join("config.json")).unwrap();
    SMALL_MODEL.unpack(models.path()).unwrap();
    assert_whole(&folder, &SMALL);
}

#[test]
fn what_a_killed_process_staged_is_cleared() {
    let models = tempfile::tempdir().unwrap();
    let staging = models.path().join("staging");
    std::fs::create_dir(&staging).unwrap();
    std::fs::write(staging.join("config.json"), b"{").unwrap();
    std::fs::write(staging.join("left.over"), b"half").unwrap();
    let folder = SMALL_MODEL.unpack(models.path()).unwrap();
    assert_whole(&folder, &SMALL);
    assert!(!folder.join("left.over").exists());
    assert!(!staging.exists());
}

#[test]
fn many_at_once_agree() {
    let models = tempfile::tempdir().unwrap();
    let path = models.path();
    let folders: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| SMALL_MODEL.unpack(path))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    });
    assert!(folders.windows(2).all(|pair| pair[0] == pair[1]));
    assert_whole(&folders[0], &SMALL);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let models = tempfile::tempdir().unwrap();
    let file = models.path().join("occupied");
    std::fs::write(&file, b"").unwrap();
    let error = SMALL_MODEL.unpack(&file).unwrap_err();
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}
