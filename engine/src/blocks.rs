//! Cache blocks: who may write where, with a hard bound.

use model::executor::{BlockId, CacheShape};

/// Hands out each block of the cache to one owner at a time.
#[derive(Clone, Debug)]
pub struct BlockAllocator {
    shape: CacheShape,
    /// The next one to hand out is the last.
    free: Vec<BlockId>,
    /// For each block, whether somebody has it.
    owned: Vec<bool>,
}

/// No block is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} more KV blocks are needed and {free} of {total} are free")]
pub struct OutOfBlocks {
    pub wanted: usize,
    pub free: usize,
    pub total: usize,
}

impl BlockAllocator {
    pub fn new(shape: CacheShape) -> Self {
        let count = u32::try_from(shape.block_count).unwrap_or(u32::MAX);
        let shape =
            CacheShape { block_tokens: shape.block_tokens.max(1), block_count: count as usize };
        Self {
            shape,
            free: (0..count).rev().map(BlockId).collect(),
            owned: vec![false; count as usize],
        }
    }

    /// Blocks that hold `tokens` positions.
    pub fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.shape.block_tokens)
    }

    pub fn total(&self) -> usize {
        self.shape.block_count
    }

    /// Positions that the whole cache holds.
    pub fn positions(&self) -> usize {
        self.shape.block_count.saturating_mul(self.shape.block_tokens)
    }

    pub fn free_count(&self) -> usize {
        self.free.len()
    }

    pub fn used_count(&self) -> usize {
        self.total() - self.free_count()
    }

    /// Extends a block table to cover `tokens` positions, wholly or not at all.
    ///
    /// # Errors
    /// [`OutOfBlocks`] when too few are free; nothing has changed then.
    pub fn extend(&mut self, table: &mut Vec<BlockId>, tokens: usize) -> Result<(), OutOfBlocks> {
        let wanted = self.blocks_for(tokens).saturating_sub(table.len());
        if wanted > self.free.len() {
            return Err(OutOfBlocks { wanted, free: self.free.len(), total: self.total() });
        }
        for block in self.free.drain(self.free.len() - wanted..).rev() {
            self.owned[block.0 as usize] = true;
            table.push(block);
        }
        Ok(())
    }

    /// Takes a whole block table back.
    pub fn release(&mut self, table: &mut Vec<BlockId>) {
        for block in table.drain(..).rev() {
            let owned = &mut self.owned[block.0 as usize];
            assert!(*owned, "block {} was released twice", block.0);
            *owned = false;
            self.free.push(block);
        }
    }
}
