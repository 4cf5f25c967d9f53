//! Checking and counting on one side, loading on the other.

use super::LoadError;
use super::build::{KeyValueUp, MatrixPart, WeightSink};
use crate::backend::{Backend, MatrixSize, WeightRows, WeightTypes};
use crate::checkpoint::{Checkpoint, CheckpointError, StoredTensor, StoredValues};
use crate::config::StoredFormat;
use crate::fp8::E4M3;

/// Checks from the headers that every tensor is there with the right shape, and adds up what it will take.
#[derive(Debug)]
pub(super) struct Check<'a, B> {
    pub checkpoint: &'a Checkpoint,
    pub backend: &'a B,
    /// In memory on this backend.
    pub bytes: u64,
}

/// Keeps nothing.
#[derive(Debug)]
pub(super) struct Nothing;

impl WeightTypes for Nothing {
    type Matrix = ();
    type Vector = ();
    type Table = ();
}

impl<B: Backend> WeightSink for Check<'_, B> {
    type Weights = Nothing;

    fn matrix(&mut self, part: &MatrixPart) -> Result<(), LoadError> {
        self.checkpoint.check(&part.name, &[part.size.rows, part.size.columns], part.format)?;
        self.bytes += self.backend.matrix_bytes(part.size, part.layout);
        Ok(())
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<(), LoadError> {
        self.checkpoint.check(name, &[length], StoredFormat::Plain)?;
        self.bytes += vector_bytes(length);
        Ok(())
    }

    fn table(&mut self, name: &str, size: MatrixSize) -> Result<(), LoadError> {
        self.checkpoint.check(name, &[size.rows, size.columns], StoredFormat::Plain)?;
        self.bytes += self.backend.table_bytes(size);
        Ok(())
    }

    fn column_halves(&mut self, part: &MatrixPart) -> Result<((), ()), LoadError> {
        self.checkpoint.check(&part.name, &[part.size.rows, 2 * part.size.columns], part.format)?;
        self.bytes += 2 * self.backend.matrix_bytes(part.size, part.layout);
        Ok(((), ()))
    }

    fn key_value_up(&mut self, part: &KeyValueUp) -> Result<((), ()), LoadError> {
        let size = part.size();
        self.checkpoint.check(&part.name, &[size.rows, size.columns], part.format)?;
        self.bytes += key_value_up_bytes(self.backend, part);
        Ok(((), ()))
    }
}

/// Loads, and tells how much after each tensor.
pub(super) struct Load<'a, B> {
    pub checkpoint: &'a Checkpoint,
    pub backend: &'a B,
    pub progress: &'a mut dyn FnMut(u64),
}

impl<B: Backend> Load<'_, B> {
    fn stored(
        &self,
        name: &str,
        size: MatrixSize,
        format: StoredFormat,
    ) -> Result<StoredTensor<'_>, CheckpointError> {
        self.checkpoint.tensor(name, &[size.rows, size.columns], format)
    }
}

impl<B: Backend> WeightSink for Load<'_, B> {
    type Weights = B;

    fn matrix(&mut self, part: &MatrixPart) -> Result<B::Matrix, LoadError> {
        let stored = self.stored(&part.name, part.size, part.format)?;
        let matrix = self.backend.matrix(&stored, part.layout);
        (self.progress)(self.backend.matrix_bytes(part.size, part.layout));
        Ok(matrix)
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<B::Vector, LoadError> {
        let stored = self.checkpoint.tensor(name, &[length], StoredFormat::Plain)?;
        let vector = self.backend.vector(&stored.to_f32());
        (self.progress)(vector_bytes(length));
        Ok(vector)
    }

    fn table(&mut self, name: &str, size: MatrixSize) -> Result<B::Table, LoadError> {
        let stored = self.stored(name, size, StoredFormat::Plain)?;
        let table = self.backend.table(&stored);
        (self.progress)(self.backend.table_bytes(size));
        Ok(table)
    }

    fn column_halves(&mut self, part: &MatrixPart) -> Result<(B::Matrix, B::Matrix), LoadError> {
        let MatrixSize { rows, columns } = part.size;
        let whole = MatrixSize { rows, columns: 2 * columns };
        let stored = self.stored(&part.name, whole, part.format)?;
        let [left, right] = [0, columns].map(|first_column| {
            let half = ColumnHalf { stored: &stored, size: part.size, first_column };
            self.backend.matrix(&half, part.layout)
        });
        (self.progress)(2 * self.backend.matrix_bytes(part.size, part.layout));
        Ok((left, right))
    }

    fn key_value_up(&mut self, part: &KeyValueUp) -> Result<(B::Matrix, B::Matrix), LoadError> {
        // Turning W_UK reads columns, so this one tensor is held in f32 for a moment.
        let values = self.stored(&part.name, part.size(), part.format)?.to_f32();
        let layout = part.layout();
        let key_up = self.backend.matrix(&KeyUpTurned { part, values: &values }, layout);
        let value_up = self.backend.matrix(&ValueUp { part, values: &values }, layout);
        (self.progress)(key_value_up_bytes(self.backend, part));
        Ok((key_up, value_up))
    }
}

fn vector_bytes(length: usize) -> u64 {
    length as u64 * 4
}

fn key_value_up_bytes<B: Backend>(backend: &B, part: &KeyValueUp) -> u64 {
    let layout = part.layout();
    backend.matrix_bytes(part.key_size(), layout) + backend.matrix_bytes(part.value_size(), layout)
}

impl WeightRows for StoredTensor<'_> {
    fn size(&self) -> MatrixSize {
        MatrixSize { rows: self.rows(), columns: self.columns() }
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        StoredTensor::read_row(self, row, out);
    }

    fn read_scaled_row(&self, row: usize, out: &mut [f32], out_scales: &mut [f32]) {
        let columns = self.columns();
        match &self.values {
            StoredValues::Fp8Blocks { bytes, scales, block_rows, block_columns } => {
                for (out, byte) in out.iter_mut().zip(&bytes[row * columns..]) {
                    *out = E4M3[usize::from(*byte)];
                }
                let across = columns.div_ceil(*block_columns);
                out_scales.copy_from_slice(&scales[row / block_rows * across..][..across]);
            }
            StoredValues::F32(_) | StoredValues::F16(_) | StoredValues::Bf16(_) => {
                StoredTensor::read_row(self, row, out);
                out_scales.fill(1.0);
            }
        }
    }
}

/// Some columns of a tensor twice as wide.
struct ColumnHalf<'a> {
    stored: &'a StoredTensor<'a>,
    size: MatrixSize,
    first_column: usize,
}

impl WeightRows for ColumnHalf<'_> {
    fn size(&self) -> MatrixSize {
        self.size
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        let mut whole = vec![0.0; 2 * self.size.columns];
        self.stored.read_row(row, &mut whole);
        out.copy_from_slice(&whole[self.first_column..][..self.size.columns]);
    }
}

/// Row `head · latent + l`: column `l` of the head's W_UK.
struct KeyUpTurned<'a> {
    part: &'a KeyValueUp,
    values: &'a [f32],
}

impl WeightRows for KeyUpTurned<'_> {
    fn size(&self) -> MatrixSize {
        self.part.key_size()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        let KeyValueUp { nope, value, latent, .. } = *self.part;
        let (head, column) = (row / latent, row % latent);
        let first = head * (nope + value);
        for (n, out) in out.iter_mut().enumerate() {
            *out = self.values[(first + n) * latent + column];
        }
    }
}

/// Row `head · value + v` of W_UV.
struct ValueUp<'a> {
    part: &'a KeyValueUp,
    values: &'a [f32],
}

impl WeightRows for ValueUp<'_> {
    fn size(&self) -> MatrixSize {
        self.part.value_size()
    }

    fn read_row(&self, row: usize, out: &mut [f32]) {
        let KeyValueUp { nope, value, latent, .. } = *self.part;
        let (head, v) = (row / value, row % value);
        let stored = head * (nope + value) + nope + v;
        out.copy_from_slice(&self.values[stored * latent..][..latent]);
    }
}
