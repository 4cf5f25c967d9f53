//! A model's files on this machine, of which only the needed parts are there: sparse files of full length, a journal
//! of what each holds, and the way of missing parts from a source or from peers. Knows nothing of tensors or plans.

mod download;
mod error;
mod folder;
mod journal;
mod ranges;
mod space;
mod sparse;

pub use download::{Downloader, Progress, list};
pub use error::FetchError;
pub use folder::{Folder, Identity, Locked};
pub use ranges::FileRange;
pub use space::{Space, available_bytes};
