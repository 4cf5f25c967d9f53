//! Container images as tar files in OCI's layout, made without any container software.
//!
//! The same content gives the same bytes: entries are sorted, owned by root, and have no time.

use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Permissions of a program, and of a folder.
pub const PROGRAM: u32 = 0o755;

/// Permissions of anything else.
pub const DATA: u32 = 0o644;

/// Who runs in every image of ours: nobody in particular, and never root.
pub const USER: &str = "65532:65532";

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing} {}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("packing {path} into a layer")]
    Pack { path: String, source: io::Error },
    #[error("image reference {reference:?}: write NAME:TAG")]
    Reference { reference: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Folder,
    File { content: Vec<u8>, mode: u32 },
    Link { target: String },
}

/// Files of an image that are stored and transferred together; paths have no slash in front.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer(BTreeMap<String, Entry>);

impl Layer {
    /// Adds a file of this machine, and the folders above it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(self, path: &str, source: &Path, mode: u32) -> Result<Self, Error> {
        let content = fs::read(source).map_err(file("reading", source))?;
        Ok(self.content(path, content, mode))
    }

    /// Adds a file with this content, and the folders above it.
    #[must_use]
    pub fn content(mut self, path: &str, content: Vec<u8>, mode: u32) -> Self {
        self.add(path, Entry::File { content, mode });
        self
    }

    /// Adds a symbolic link, and the folders above it.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.add(path, Entry::Link { target: target.to_owned() });
        self
    }

    /// Adds a folder, and those above it.
    #[must_use]
    pub fn folder(mut self, path: &str) -> Self {
        self.add(path, Entry::Folder);
        self
    }

    fn add(&mut self, path: &str, entry: Entry) {
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_owned()).or_insert(Entry::Folder);
        }
        self.0.insert(path.to_owned(), entry);
    }

    fn packed(&self) -> Result<Vec<u8>, Error> {
        let mut builder = Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            append(&mut builder, path, entry)
                .map_err(|source| Error::Pack { path: path.clone(), source })?;
        }
        builder.into_inner().map_err(|source| Error::Pack { path: "the end".to_owned(), source })
    }
}

/// Root's, from the beginning of time.
fn header() -> Header {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append(builder: &mut Builder<Vec<u8>>, path: &str, entry: &Entry) -> io::Result<()> {
    let mut header = header();
    let mut add = |kind, mode, content: &[u8]| {
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content)
    };
    match entry {
        Entry::Folder => add(EntryType::Directory, PROGRAM, &[]),
        Entry::File { content, mode } => add(EntryType::Regular, *mode, content),
        Entry::Link { target } => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            builder.append_link(&mut header, path, target)
        }
    }
}

/// An image for this machine's architecture.
#[derive(Debug, Clone)]
pub struct Image {
    /// `NAME:TAG`.
    pub reference: String,
    pub layers: Vec<Layer>,
    pub entrypoint: Vec<String>,
    /// `NAME=VALUE`.
    pub environment: Vec<String>,
    pub labels: Vec<(String, String)>,
}

/// A part of an image that is known by its hash.
#[derive(Debug)]
struct Blob {
    kind: &'static str,
    digest: String,
    content: Vec<u8>,
}

impl Blob {
    fn new(kind: &'static str, content: Vec<u8>) -> Self {
        Self { kind, digest: format!("sha256:{}", sha256(&content)), content }
    }

    fn described(&self) -> serde_json::Value {
        let kind = format!("application/vnd.oci.image.{}", self.kind);
        json!({"mediaType": kind, "digest": self.digest, "size": self.content.len()})
    }
}

impl Image {
    /// Writes it to `path` and returns its digest, the hash of all that is in it but its name.
    ///
    /// # Errors
    /// When the file cannot be written, or the reference has no tag.
    pub fn write(&self, path: &Path) -> Result<String, Error> {
        let Some((_, tag)) = self.reference.rsplit_once(':') else {
            return Err(Error::Reference { reference: self.reference.clone() });
        };
        let mut blobs = Vec::new();
        for layer in &self.layers {
            blobs.push(Blob::new("layer.v1.tar", layer.packed()?));
        }
        let configuration =
            Blob::new("config.v1+json", self.configuration(&blobs).to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": configuration.described(),
            "layers": blobs.iter().map(Blob::described).collect::<Vec<_>>(),
        });
        let manifest = Blob::new("manifest.v1+json", manifest.to_string().into_bytes());
        let mut described = manifest.described();
        described["annotations"] = json!({
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({"schemaVersion": 2, "manifests": [described]});
        let digest = manifest.digest.clone();
        blobs.extend([configuration, manifest]);
        // Whoever looks sees no file or a whole one.
        let unfinished = path.with_extension("unfinished");
        let written = write_layout(&unfinished, &index.to_string(), &blobs);
        written.and_then(|()| fs::rename(&unfinished, path)).map_err(file("writing", path))?;
        Ok(digest)
    }

    fn configuration(&self, layers: &[Blob]) -> serde_json::Value {
        let labels: BTreeMap<_, _> = self.labels.iter().cloned().collect();
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": USER,
                "Entrypoint": self.entrypoint,
                "Env": self.environment,
                "WorkingDir": "/",
                "Labels": labels,
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|layer| layer.digest.as_str()).collect::<Vec<_>>(),
            },
        })
    }
}

/// A hash in hex.
pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// This machine's architecture by Go's name, which is OCI's.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn write_layout(path: &Path, index: &str, blobs: &[Blob]) -> io::Result<()> {
    let mut builder = Builder::new(io::BufWriter::new(fs::File::create(path)?));
    let mut add = |name: &str, content: &[u8]| {
        let mut header = header();
        header.set_mode(DATA);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content)
    };
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json", index.as_bytes())?;
    for blob in blobs {
        add(&format!("blobs/{}", blob.digest.replace(':', "/")), &blob.content)?;
    }
    builder.into_inner()?.flush()
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::File { doing, path, source }
}
