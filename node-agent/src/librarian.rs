//! The task that opens the library and tells the board, again and again until it is there.

use crate::board::Board;
use crate::facts;
use crate::fetch::{Downloader, FetchError, Folder, Progress, list};
use crate::library::{Library, LibraryError, LibraryOptions, Place, ensure_samples};
use crate::limits::{SOURCE_RETRY_MAX, SOURCE_RETRY_MIN};
use crate::metrics::Metrics;
use crate::{checkpoint_files, describe};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Everything that opening a library takes.
#[derive(Debug)]
pub struct Librarian {
    pub options: Option<LibraryOptions>,
    pub board: Arc<Board>,
    pub metrics: Arc<Metrics>,
    pub library: watch::Sender<Option<Arc<Library>>>,
}

impl Librarian {
    /// Never ends: the agent stays up and says what is wrong, and a fault that goes away is noticed.
    pub async fn run(self) {
        if let Some(options) = &self.options {
            let mut pause = SOURCE_RETRY_MIN;
            loop {
                match self.open(options).await {
                    Ok(library) => {
                        tracing::info!(
                            fingerprint = library.facts.fingerprint,
                            revision = library.facts.revision,
                            directory = %library.directory.display(),
                            "the model's facts are known"
                        );
                        self.board.model(&library.facts);
                        self.library.send_replace(Some(Arc::new(library)));
                        break;
                    }
                    Err(error) => {
                        let reason = describe(&error);
                        tracing::error!(reason, "the model cannot be had; trying again");
                        self.board.failed(&reason);
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(SOURCE_RETRY_MAX);
            }
        }
        std::future::pending::<()>().await;
    }

    async fn open(&self, options: &LibraryOptions) -> Result<Library, LibraryError> {
        let job = options.clone();
        match blocking(move || job.place()).await? {
            Place::Local(directory) => self.read(options, directory, None).await,
            Place::Remote(remote) => {
                let identity = options.identity();
                let listing = list(&*remote, &self.metrics);
                let folder = Folder::open(options.models(), &identity, listing).await;
                let downloader = Downloader {
                    folder: Arc::new(folder.map_err(|error| options.fetch_error(error))?),
                    remote,
                    metrics: Arc::clone(&self.metrics),
                    space: options.space(),
                };
                let opened = self.open_remote(options, &downloader).await;
                if opened.as_ref().is_err_and(LibraryError::is_about_content) {
                    // Files that are of no use are looked up anew: they may be mended at the source.
                    downloader.folder.forget().map_err(|error| options.fetch_error(error))?;
                }
                opened
            }
        }
    }

    async fn open_remote(
        &self,
        options: &LibraryOptions,
        downloader: &Downloader,
    ) -> Result<Library, LibraryError> {
        let failed = |error: FetchError| options.fetch_error(error);
        let board = Arc::clone(&self.board);
        let progress = Progress::new(move |done, total| board.fetch(done, total));
        let locked = downloader.folder.lock().await.map_err(failed)?;
        checkpoint_files::metadata(downloader, &locked, &progress).await.map_err(failed)?;
        let directory = downloader.folder.directory();
        let (opening, job) = (directory.clone(), options.clone());
        let samples = blocking(move || job.samples(&opening)).await?;
        ensure_samples(downloader, &locked, &samples, &progress).await.map_err(failed)?;
        drop(locked);
        self.read(options, directory, Some(downloader.clone())).await
    }

    async fn read(
        &self,
        options: &LibraryOptions,
        directory: PathBuf,
        remote: Option<Downloader>,
    ) -> Result<Library, LibraryError> {
        let job = options.clone();
        blocking(move || {
            let revision = remote.as_ref().map_or("", |remote| remote.folder.revision()).to_owned();
            let read = facts::read(&directory, &revision);
            let (headers, facts) = read.map_err(|error| job.facts_error(error))?;
            Ok(Library { directory, facts, headers: Arc::new(headers), remote })
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LibraryError> + Send + 'static,
) -> Result<T, LibraryError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(LibraryError::Stopped { reason: error.to_string() }),
    }
}
