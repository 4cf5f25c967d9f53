//! Missing bytes from the source: a few requests at a time, each begun again where it broke.

use super::error::FetchError;
use super::folder::{Folder, Locked};
use super::ranges::{FileRange, requests};
use super::space::Space;
use super::sparse::SparseFile;
use crate::limits::{
    COMMIT_INTERVAL, FETCH_ATTEMPTS_MAX, FETCH_BACKOFF_MAX, FETCH_BACKOFF_MIN, FETCH_BUFFER_BYTES,
    FETCH_CONCURRENCY, FETCH_GAP_BYTES, FETCH_PIECE_BYTES, SOURCE_READ_TIMEOUT,
};
use crate::metrics::{FROM_SOURCE, Metrics};
use crate::sources::{Listing, Remote, SourceError};
use futures::StreamExt as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// A source and the folder that it fills.
#[derive(Clone, Debug)]
pub struct Downloader {
    pub folder: Arc<Folder>,
    pub remote: Arc<dyn Remote>,
    pub metrics: Arc<Metrics>,
    pub space: Space,
}

/// How far a fetch has come.
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    report: Box<dyn Fn(u64, u64) + Send + Sync>,
}

impl Progress {
    /// `report` gets bytes done and bytes in all, about once a second.
    pub fn new(report: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        let report = Box::new(report);
        Self { done: AtomicU64::new(0), total: AtomicU64::new(0), report }
    }

    /// So many bytes are wanted, and so many of them are there.
    pub fn begin(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.tell();
    }

    /// More bytes have arrived.
    pub fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn tell(&self) {
        let total = self.total.load(Ordering::Relaxed);
        // Bytes between wanted ranges arrive too and are not counted as wanted.
        (self.report)(self.done.load(Ordering::Relaxed).min(total), total);
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Progress").field("done", &self.done).finish_non_exhaustive()
    }
}

/// The source's listing, asked for again when it does not come through.
pub async fn list(remote: &dyn Remote, metrics: &Metrics) -> Result<Listing, SourceError> {
    let mut failures = 0;
    loop {
        match remote.list().await {
            Err(error) if error.is_transient() && failures + 1 < FETCH_ATTEMPTS_MAX => {
                failures += 1;
                pause(metrics, failures, &error).await;
            }
            result => return result,
        }
    }
}

impl Downloader {
    /// Bytes of these ranges that are not there.
    pub fn missing(&self, wanted: &[FileRange]) -> Vec<FileRange> {
        let parts = wanted.iter().filter_map(|&FileRange { file, start, end }| {
            let missing = self.folder.files().get(file)?.missing(&(start..end));
            let part = move |range: std::ops::Range<u64>| FileRange {
                file,
                start: range.start,
                end: range.end,
            };
            Some(missing.into_iter().map(part))
        });
        parts.flatten().collect()
    }

    /// Returns once these bytes are safe on disk; also when it fails, what has arrived is kept.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn ensure(
        &self,
        _: &Locked,
        wanted: &[FileRange],
        progress: &Progress,
    ) -> Result<(), FetchError> {
        let pieces = requests(self.missing(wanted), FETCH_GAP_BYTES, FETCH_PIECE_BYTES);
        let needed: u64 = pieces.iter().map(FileRange::bytes).sum();
        self.check_space(needed)?;
        let fetched = self.fetch(pieces, progress).await;
        let committed = self.commit().await;
        progress.tell();
        fetched.and(committed).map_err(|error| self.explain(error, needed))?;
        self.on_files(SparseFile::verify).await
    }

    async fn fetch(&self, pieces: Vec<FileRange>, progress: &Progress) -> Result<(), FetchError> {
        let pieces = futures::stream::iter(pieces).map(|piece| self.piece(piece, progress));
        let mut pieces = pieces.buffer_unordered(FETCH_CONCURRENCY);
        let downloads = async {
            while let Some(piece) = pieces.next().await {
                piece?;
            }
            Ok(())
        };
        let commits = async {
            loop {
                tokio::time::sleep(COMMIT_INTERVAL).await;
                if let Err(error) = self.commit().await {
                    return error;
                }
                progress.tell();
            }
        };
        tokio::select! {
            result = downloads => result,
            error = commits => Err(error),
        }
    }

    /// Makes safe what has arrived, on a thread that may wait for the disk.
    pub async fn commit(&self) -> Result<(), FetchError> {
        self.on_files(SparseFile::commit).await
    }

    async fn on_files(
        &self,
        work: fn(&SparseFile) -> Result<(), FetchError>,
    ) -> Result<(), FetchError> {
        let folder = Arc::clone(&self.folder);
        blocking(move || folder.files().iter().try_for_each(work)).await
    }

    async fn piece(&self, piece: FileRange, progress: &Progress) -> Result<(), FetchError> {
        let mut at = piece.start;
        let mut failures = 0;
        while at < piece.end {
            let before = at;
            let Err(error) = self.stream(&piece, &mut at, progress).await else { continue };
            let error = match error {
                FetchError::Source(error) if error.is_transient() => error,
                error => return Err(error),
            };
            failures = if at > before { 1 } else { failures + 1 };
            if failures >= FETCH_ATTEMPTS_MAX {
                let file = self.folder.files().get(piece.file);
                let file = file.map(|file| file.remote.name.clone()).unwrap_or_default();
                return Err(FetchError::Exhausted { file, attempts: failures, source: error });
            }
            pause(&self.metrics, failures, &error).await;
        }
        Ok(())
    }

    /// One request; `at` moves with the bytes that have been written.
    async fn stream(
        &self,
        piece: &FileRange,
        at: &mut u64,
        progress: &Progress,
    ) -> Result<(), FetchError> {
        let Some(file) = self.folder.files().get(piece.file) else { return Ok(()) };
        let (revision, remote) = (self.folder.revision(), &file.remote);
        let broken = |reason: &str| {
            let (what, reason) = (remote.name.clone(), reason.to_owned());
            FetchError::Source(SourceError::Transient { what, reason })
        };
        let reading = self.remote.read(revision, remote, *at..piece.end);
        let reading = timeout(SOURCE_READ_TIMEOUT, reading).await;
        let mut stream = reading.map_err(|_| broken("no answer in time"))??;
        let mut buffer = Vec::with_capacity(FETCH_BUFFER_BYTES);
        loop {
            let chunk = timeout(SOURCE_READ_TIMEOUT, stream.next()).await;
            let chunk = match chunk {
                Ok(Some(Ok(chunk))) => Ok(chunk),
                Ok(Some(Err(error))) => Err(FetchError::Source(error)),
                Ok(None) => Err(broken("the connection was cut")),
                Err(_) => Err(broken("no bytes in time")),
            };
            let full = match &chunk {
                Ok(chunk) => {
                    buffer.extend_from_slice(chunk);
                    buffer.len() >= FETCH_BUFFER_BYTES
                }
                Err(_) => true,
            };
            let end = *at + buffer.len() as u64;
            if end > piece.end {
                let what = remote.name.clone();
                let reason = "more bytes than were asked for".to_owned();
                return Err(SourceError::Protocol { what, reason }.into());
            }
            if full || end == piece.end {
                let bytes = std::mem::take(&mut buffer);
                self.write(FROM_SOURCE, piece.file, *at, bytes).await?;
                progress.advance(end - *at);
                *at = end;
            }
            if *at == piece.end {
                return Ok(());
            }
            chunk?;
        }
    }

    /// Puts bytes from somewhere into their place.
    ///
    /// # Errors
    /// [`FetchError::File`].
    pub async fn write(
        &self,
        from: &str,
        file: usize,
        start: u64,
        bytes: Vec<u8>,
    ) -> Result<(), FetchError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let counter = self.metrics.fetched_bytes.with_label_values(&[from]);
        counter.inc_by(bytes.len() as u64);
        let folder = Arc::clone(&self.folder);
        blocking(move || folder.files().get(file).map_or(Ok(()), |it| it.write(start, &bytes)))
            .await
    }

    /// Whether the volume can take so many bytes more.
    ///
    /// # Errors
    /// [`FetchError::StorageFull`].
    pub fn check_space(&self, needed: u64) -> Result<(), FetchError> {
        match (self.space)(self.folder.root()) {
            Ok(available) if available < needed => {
                let path = self.folder.root().to_owned();
                Err(FetchError::StorageFull { path, needed, available })
            }
            // A volume that does not tell is tried.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// A disk that ran full says how much is missing.
    fn explain(&self, error: FetchError, needed: u64) -> FetchError {
        match &error {
            FetchError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                let available = (self.space)(self.folder.root()).unwrap_or(0);
                FetchError::StorageFull { path: self.folder.root().to_owned(), needed, available }
            }
            _ => error,
        }
    }
}

/// Waits before a request is sent again, longer each time.
async fn pause(metrics: &Metrics, failures: u32, error: &SourceError) {
    let wait = FETCH_BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let wait: Duration = wait.min(FETCH_BACKOFF_MAX);
    let reason = crate::describe(error);
    tracing::warn!(reason, wait_ms = wait.as_millis(), "the source is asked again");
    metrics.fetch_retries.inc();
    tokio::time::sleep(wait).await;
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(FetchError::Stopped { reason: error.to_string() }),
    }
}
