//! Experts for agents that join, as they stand in the checkpoint.

use crate::checkpoint_files;
use crate::fetch::Folder;
use crate::limits::{
    EXPERT_CHUNK_BYTES, EXPERT_CHUNKS_WAITING_MAX, EXPERT_STREAMS_MAX, PEER_CHUNK_TIMEOUT,
};
use model::executor::ExpertAddress;
use model::load::{ModelLoader, ModelPart};
use proto::v1::{ExpertChunk, FetchExpertRequest};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// The files that the assignment in effect was loaded from.
#[derive(Clone, Debug)]
pub struct ExpertFiles {
    pub fingerprint: String,
    pub headers: Arc<ModelLoader>,
    /// For files that are here only in part.
    pub folder: Option<Arc<Folder>>,
}

/// Bounds how many are handed out at once.
#[derive(Clone, Debug)]
pub struct ExpertStreams(Arc<Semaphore>);

impl Default for ExpertStreams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(EXPERT_STREAMS_MAX)))
    }
}

/// One tensor that is about to be sent.
struct Tensor {
    name: String,
    path: PathBuf,
    bytes: Range<u64>,
}

type Chunk = Result<ExpertChunk, Status>;

impl ExpertStreams {
    /// The expert's tensors, one after the other.
    ///
    /// # Errors
    /// A status: another model, an expert that is not here, too many at once.
    pub fn open(
        &self,
        files: &ExpertFiles,
        request: &FetchExpertRequest,
    ) -> Result<ReceiverStream<Chunk>, Status> {
        let FetchExpertRequest { fingerprint, layer, expert } = request;
        if *fingerprint != files.fingerprint {
            return Err(Status::failed_precondition(format!(
                "fingerprint is {fingerprint:?} and this agent's model has {:?}",
                files.fingerprint
            )));
        }
        let tensors = files.tensors(ExpertAddress { layer: *layer, expert: *expert });
        let tensors = tensors.ok_or_else(|| {
            Status::not_found(format!("expert {expert} of layer {layer} is not in this agent"))
        })?;
        let place = Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{EXPERT_STREAMS_MAX} experts are handed out already"
            ))
        })?;
        let (chunks, stream) = mpsc::channel(EXPERT_CHUNKS_WAITING_MAX);
        tokio::spawn(send(tensors, chunks, place));
        Ok(ReceiverStream::new(stream))
    }
}

impl ExpertFiles {
    /// `None` unless every byte of the expert is on disk.
    fn tensors(&self, address: ExpertAddress) -> Option<Vec<Tensor>> {
        let tensors = self.headers.part(ModelPart::Expert(address)).ok()?;
        let is_here = |folder: &Arc<Folder>| {
            tensors.iter().all(|tensor| {
                let range = checkpoint_files::range_of(folder, tensor);
                let file = range.as_ref().and_then(|range| folder.files().get(range.file));
                file.zip(range.as_ref())
                    .is_some_and(|(file, it)| file.contains(&(it.start..it.end)))
            })
        };
        if !self.folder.as_ref().is_none_or(is_here) {
            return None;
        }
        let tensor = |tensor: &model::checkpoint::TensorAt<'_>| Tensor {
            name: tensor.name.to_owned(),
            path: tensor.file.to_owned(),
            bytes: tensor.place.bytes.start as u64..tensor.place.bytes.end as u64,
        };
        Some(tensors.iter().map(tensor).collect())
    }
}

/// Ends early when the peer is gone or does not read.
async fn send(tensors: Vec<Tensor>, chunks: mpsc::Sender<Chunk>, _place: OwnedSemaphorePermit) {
    for Tensor { name, path, bytes } in tensors {
        let mut at = bytes.start;
        while at < bytes.end {
            let end = bytes.end.min(at + EXPERT_CHUNK_BYTES as u64);
            let (file, part) = (path.clone(), at..end);
            let read = tokio::task::spawn_blocking(move || read(&file, part)).await;
            let chunk = match read {
                Ok(Ok(data)) => Ok(ExpertChunk {
                    tensor: name.clone(),
                    offset: at - bytes.start,
                    tensor_bytes: bytes.end - bytes.start,
                    data: data.into(),
                }),
                Ok(Err(error)) => Err(Status::internal(format!("{}: {error}", path.display()))),
                Err(error) => Err(Status::internal(error.to_string())),
            };
            let failed = chunk.is_err();
            let sent = tokio::time::timeout(PEER_CHUNK_TIMEOUT, chunks.send(chunk)).await;
            if failed || !matches!(sent, Ok(Ok(()))) {
                return;
            }
            at = end;
        }
    }
}

fn read(path: &PathBuf, bytes: Range<u64>) -> io::Result<Vec<u8>> {
    let mut data = vec![0; (bytes.end - bytes.start) as usize];
    File::open(path)?.read_exact_at(&mut data, bytes.start)?;
    Ok(data)
}
