//! The routed experts in memory, as one immutable value: a new assignment makes a new store that shares what stays.

use crate::backend::{Backend, NetworkCall};
use crate::executor::{ExpertAddress, ExpertCall, ExpertError, Experts, RowFormat};
use crate::kernels::CpuBackend;
use crate::layers::feed_forward::GatedFeedForward;
use crate::reference::ReferenceBackend;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Resident experts on whichever backend the loader runs. Cloning shares the weights.
#[derive(Clone)]
pub struct ExpertStore {
    pub(crate) shelf: Shelf,
}

/// The experts of one backend each.
#[derive(Clone)]
pub(crate) enum Shelf {
    Reference(BackendExperts<ReferenceBackend>),
    Cpu(BackendExperts<CpuBackend>),
}

/// Resident experts of backend `B`.
pub(crate) struct BackendExperts<B: Backend> {
    pub backend: Arc<B>,
    /// The hidden size.
    pub row_length: usize,
    pub experts: BTreeMap<ExpertAddress, Arc<GatedFeedForward<B>>>,
}

impl<B: Backend> Clone for BackendExperts<B> {
    fn clone(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            row_length: self.row_length,
            experts: self.experts.clone(),
        }
    }
}

impl fmt::Debug for ExpertStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ExpertStore").field("resident", &self.resident().len()).finish()
    }
}

impl Experts for ExpertStore {
    fn row_format(&self) -> RowFormat {
        match &self.shelf {
            Shelf::Reference(experts) => experts.backend.row_format(),
            Shelf::Cpu(experts) => experts.backend.row_format(),
        }
    }

    fn row_length(&self) -> usize {
        match &self.shelf {
            Shelf::Reference(experts) => experts.row_length,
            Shelf::Cpu(experts) => experts.row_length,
        }
    }

    fn resident(&self) -> Vec<ExpertAddress> {
        match &self.shelf {
            Shelf::Reference(experts) => experts.experts.keys().copied().collect(),
            Shelf::Cpu(experts) => experts.experts.keys().copied().collect(),
        }
    }

    fn compute(
        &self,
        layer: u32,
        calls: &[ExpertCall],
        rows: &[u8],
    ) -> Result<Vec<u8>, ExpertError> {
        match &self.shelf {
            Shelf::Reference(experts) => experts.compute(layer, calls, rows),
            Shelf::Cpu(experts) => experts.compute(layer, calls, rows),
        }
    }
}

impl<B: Backend> BackendExperts<B> {
    fn compute(
        &self,
        layer: u32,
        calls: &[ExpertCall],
        rows: &[u8],
    ) -> Result<Vec<u8>, ExpertError> {
        let row_bytes = self.backend.row_format().row_bytes(self.row_length);
        if row_bytes == 0 || !rows.len().is_multiple_of(row_bytes) {
            return Err(ExpertError::PayloadSize { given: rows.len(), row_bytes });
        }
        let row_count = rows.len() / row_bytes;
        // Everything is checked before anything is computed: a refused call costs nothing.
        let networks = self.networks(layer, calls)?;
        let mut picked = calls.iter().flat_map(|call| &call.rows);
        if let Some(&row) = picked.find(|row| **row as usize >= row_count) {
            return Err(ExpertError::RowOutOfRange { row, row_count });
        }
        let calls: Vec<NetworkCall<'_, B>> = networks
            .into_iter()
            .zip(calls)
            .map(|(network, call)| NetworkCall { network, rows: &call.rows })
            .collect();
        Ok(self.backend.experts(&calls, self.row_length, rows))
    }

    fn networks(
        &self,
        layer: u32,
        calls: &[ExpertCall],
    ) -> Result<Vec<&GatedFeedForward<B>>, ExpertError> {
        calls
            .iter()
            .map(|call| {
                let address = ExpertAddress { layer, expert: call.expert };
                let network = self.experts.get(&address).map(Arc::as_ref);
                network.ok_or(ExpertError::NotResident { layer, expert: call.expert })
            })
            .collect()
    }
}
