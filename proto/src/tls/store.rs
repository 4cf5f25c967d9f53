//! The certificates in use, looked at again when a handshake needs them.

use super::RELOAD_INTERVAL;
use super::identity::{Identity, Role};
use super::material::{Material, MaterialError};
use super::pem::Pem;
use super::{CERTIFICATE_FILE, channel::describe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Reads of a changed folder before it counts as broken: a first one may fall between two of its files' changes.
const READ_ATTEMPTS: u32 = 2;

/// Where the certificates come from, and those in use.
#[derive(Debug)]
pub struct Store {
    source: Source,
    own: Identity,
    reload_interval: Duration,
    cache: Arc<Mutex<Cache>>,
}

#[derive(Debug)]
enum Source {
    Directory(PathBuf),
    /// Only [`Store::replace`] changes them.
    Given,
}

#[derive(Debug)]
struct Cache {
    pem: Pem,
    material: Arc<Material>,
    checked_at: Instant,
    /// Why the folder as it is now is not used; empty while it is.
    trouble: String,
}

impl Store {
    /// Reads a folder, and again whenever it changes.
    pub fn from_directory(directory: &Path, role: Role) -> Result<Self, MaterialError> {
        let (pem, material) = read(directory, role)?;
        Ok(Self::new(Source::Directory(directory.to_owned()), pem, material))
    }

    /// Takes certificates as they are.
    pub fn from_pem(pem: Pem, role: Role) -> Result<Self, MaterialError> {
        let material = Material::parse(&pem, role)?;
        Ok(Self::new(Source::Given, pem, material))
    }

    fn new(source: Source, pem: Pem, material: Material) -> Self {
        let own = material.identity.clone();
        tracing::info!(identity = %own, origin = pem.origin, "mutual TLS is on");
        let (material, checked_at) = (Arc::new(material), Instant::now());
        let cache = Cache { pem, material, checked_at, trouble: String::new() };
        Self { source, own, reload_interval: RELOAD_INTERVAL, cache: Arc::new(Mutex::new(cache)) }
    }

    /// The same certificates, looked at this often.
    pub fn with_reload_interval(&self, reload_interval: Duration) -> Self {
        let source = match &self.source {
            Source::Directory(path) => Source::Directory(path.clone()),
            Source::Given => Source::Given,
        };
        Self { source, own: self.own.clone(), reload_interval, cache: Arc::clone(&self.cache) }
    }

    /// The name that this process bears for its whole life.
    pub fn own(&self) -> &Identity {
        &self.own
    }

    /// The certificates for a handshake that begins now. A folder that has become unusable changes nothing: the last
    /// good ones stay in use, and the log says why.
    pub async fn current(&self) -> Arc<Material> {
        let mut cache = self.cache.lock().await;
        let Source::Directory(directory) = &self.source else {
            return Arc::clone(&cache.material);
        };
        if cache.checked_at.elapsed() < self.reload_interval {
            return Arc::clone(&cache.material);
        }
        let (directory, role) = (directory.clone(), self.own.role());
        let known = cache.pem.clone();
        // Files may be slow; the threads of the network must not wait for them.
        let found = tokio::task::spawn_blocking(move || changed(&directory, role, &known)).await;
        cache.checked_at = Instant::now();
        match found {
            Ok(Ok(None)) => cache.trouble.clear(),
            Ok(Ok(Some((pem, material)))) => match self.take(&mut cache, pem, material) {
                Ok(()) => {}
                Err(error) => cache.report(describe(&error)),
            },
            Ok(Err(error)) => cache.report(describe(&error)),
            Err(error) => cache.report(error.to_string()),
        }
        Arc::clone(&cache.material)
    }

    /// Uses these from now on.
    pub async fn replace(&self, pem: Pem) -> Result<(), MaterialError> {
        let material = Material::parse(&pem, self.own.role())?;
        let mut cache = self.cache.lock().await;
        self.take(&mut cache, pem, material)
    }

    fn take(&self, cache: &mut Cache, pem: Pem, material: Material) -> Result<(), MaterialError> {
        if material.identity != self.own {
            return Err(MaterialError::Renamed {
                file: pem.file(CERTIFICATE_FILE),
                found: Box::new(material.identity),
                before: Box::new(self.own.clone()),
            });
        }
        tracing::info!(identity = %self.own, origin = pem.origin, "new certificates are in use");
        cache.material = Arc::new(material);
        cache.pem = pem;
        cache.trouble.clear();
        Ok(())
    }
}

impl Cache {
    /// The same trouble again is no news.
    fn report(&mut self, trouble: String) {
        if self.trouble != trouble {
            tracing::error!(trouble, "changed certificates cannot be used; the former stay in use");
            self.trouble = trouble;
        }
    }
}

/// The folder's certificates when they are not the known ones.
fn changed(
    directory: &Path,
    role: Role,
    known: &Pem,
) -> Result<Option<(Pem, Material)>, MaterialError> {
    if Pem::read(directory).is_ok_and(|pem| pem == *known) {
        return Ok(None);
    }
    read(directory, role).map(Some)
}

fn read(directory: &Path, role: Role) -> Result<(Pem, Material), MaterialError> {
    let once = || {
        let pem = Pem::read(directory)?;
        let material = Material::parse(&pem, role)?;
        Ok((pem, material))
    };
    let mut result = once();
    for _ in 1..READ_ATTEMPTS {
        if result.is_ok() {
            break;
        }
        result = once();
    }
    result
}
