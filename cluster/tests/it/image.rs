//! Images: the same bytes for the same content, and what is in them.

use cluster::image::{DATA, Image, Layer, PROGRAM, USER};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

fn image(reference: &str, layer: Layer) -> Image {
    Image {
        reference: reference.to_owned(),
        layers: vec![layer],
        entrypoint: vec!["/usr/bin/program".to_owned()],
        environment: vec!["PATH=/usr/bin".to_owned()],
        labels: vec![("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())],
    }
}

fn layer() -> Layer {
    let layer = Layer::default().content("usr/bin/program", b"program".to_vec(), PROGRAM);
    layer.content("etc/motd", b"hello".to_vec(), DATA).link("lib", "usr/lib")
}

/// What a tar holds at one place.
struct Entry {
    name: String,
    /// Owner, group, time.
    numbers: [u64; 3],
    mode: u32,
    content: Vec<u8>,
}

/// In their order.
fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("a tar").map(|entry| {
        let mut entry = entry.expect("an entry");
        let header = entry.header();
        let numbers =
            [header.uid(), header.gid(), header.mtime()].map(|number| number.expect("a number"));
        let mode = header.mode().expect("mode");
        let name = entry.path().expect("a path").display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        Entry { name, numbers, mode, content }
    });
    entries.collect()
}

fn json(files: &BTreeMap<String, Vec<u8>>, name: &str) -> serde_json::Value {
    serde_json::from_slice(&files[name]).expect("JSON")
}

fn blob(value: &serde_json::Value) -> String {
    format!("blobs/{}", value["digest"].as_str().expect("a digest").replace(':', "/"))
}

fn read(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let tar = std::fs::read(path).expect("the image");
    entries(&tar).into_iter().map(|entry| (entry.name, entry.content)).collect()
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["one.tar", "two.tar"].map(|name| folder.path().join(name));
    let other_order =
        Layer::default().link("lib", "usr/lib").content("etc/motd", b"hello".to_vec(), DATA);
    let other_order = other_order.content("usr/bin/program", b"program".to_vec(), PROGRAM);
    let one = image("x/y:1", layer()).write(&paths[0]).unwrap();
    let two = image("x/y:1", other_order).write(&paths[1]).unwrap();
    assert_eq!(one, two);
    let [one, two] = paths.map(|path| std::fs::read(path).unwrap());
    assert!(one == two);
}

#[test]
fn a_tag_changes_no_digest_and_a_byte_does() {
    let folder = tempfile::tempdir().unwrap();
    let write = |image: Image| image.write(&folder.path().join("image.tar")).unwrap();
    let digest = write(image("x/y:1", layer()));
    assert_eq!(digest, write(image("x/y:2", layer())));
    assert_ne!(digest, write(image("x/y:1", layer().content("etc/motd", b"Hello".to_vec(), DATA))));
    let without_tag = image("x", layer()).write(&folder.path().join("image.tar"));
    assert!(without_tag.unwrap_err().to_string().contains("NAME:TAG"));
}

#[test]
fn it_says_what_a_container_runtime_asks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let digest = image("x/y:1", layer()).write(&path).unwrap();
    let files = read(&path);
    let described = &json(&files, "index.json")["manifests"][0];
    assert_eq!(described["digest"], digest.as_str());
    assert_eq!(described["annotations"]["io.containerd.image.name"], "x/y:1");
    let manifest = json(&files, &blob(described));
    let config = json(&files, &blob(&manifest["config"]));
    assert_eq!(config["config"]["User"], USER);
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/program");
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    for (name, content) in &files {
        let Some(hash) = name.strip_prefix("blobs/sha256/") else { continue };
        assert_eq!(hash, cluster::image::sha256(content));
    }
    let layer = entries(&files[&blob(&manifest["layers"][0])]);
    let names: Vec<_> = layer.iter().map(|entry| entry.name.trim_end_matches('/')).collect();
    assert_eq!(names, ["etc", "etc/motd", "lib", "usr", "usr/bin", "usr/bin/program"]);
    assert!(layer.iter().all(|entry| entry.numbers == [0, 0, 0]));
    let modes: Vec<_> = layer.iter().map(|entry| entry.mode).collect();
    assert_eq!(modes, [0o755, 0o644, 0o777, 0o755, 0o755, 0o755]);
}
