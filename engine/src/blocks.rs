//! Cache blocks: who may write where and who may read what, with a hard bound.
//!
//! A block is private to one sequence until it is full and computed. Then it is known by its tokens, is never written
//! again, and may have any number of owners. A known block without owners keeps its content until room is needed.

use crate::prefix::PrefixTree;
use model::executor::{BlockId, CacheShape};
use std::collections::BTreeMap;

/// Hands out the blocks of the cache, and keeps what they hold as long as it can.
///
/// Whoever owns a known block owns all blocks before it in its table, so a parent has at least its child's owners, and
/// is idle no earlier.
#[derive(Clone, Debug)]
pub struct BlockAllocator {
    shape: CacheShape,
    /// Blocks that hold nothing. The next one to hand out is the last.
    free: Vec<BlockId>,
    /// For each block, how many tables it is in, and when it was last released.
    usage: Vec<Usage>,
    known: PrefixTree,
    /// Known blocks without owners by the time of their release: the first is evicted first.
    idle: BTreeMap<u64, BlockId>,
    /// Counts releases of blocks.
    releases: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    owners: usize,
    /// Its key among the idle ones while it is there.
    released: u64,
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
            usage: vec![Usage::default(); count as usize],
            known: PrefixTree::default(),
            idle: BTreeMap::new(),
            releases: 0,
        }
    }

    /// Blocks that hold `tokens` positions.
    pub fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.shape.block_tokens)
    }

    pub fn block_tokens(&self) -> usize {
        self.shape.block_tokens
    }

    pub fn total(&self) -> usize {
        self.shape.block_count
    }

    /// Positions that the whole cache holds.
    pub fn positions(&self) -> usize {
        self.shape.block_count.saturating_mul(self.shape.block_tokens)
    }

    /// Blocks that can be handed out: those that hold nothing, and those that hold what nobody uses now.
    pub fn free_count(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Blocks that somebody owns.
    pub fn used_count(&self) -> usize {
        self.total() - self.free_count()
    }

    /// Blocks that keep their content without an owner.
    pub fn idle_count(&self) -> usize {
        self.idle.len()
    }

    /// Extends a block table to cover `tokens` positions, wholly or not at all.
    ///
    /// # Errors
    /// [`OutOfBlocks`] when too few are free; nothing has changed then.
    pub fn extend(&mut self, table: &mut Vec<BlockId>, tokens: usize) -> Result<(), OutOfBlocks> {
        let wanted = self.blocks_for(tokens).saturating_sub(table.len());
        if wanted > self.free_count() {
            return Err(self.out_of_blocks(wanted));
        }
        for _ in 0..wanted {
            table.extend(self.take());
        }
        Ok(())
    }

    /// Fills an empty table to cover `tokens` positions, wholly or not at all: first the longest known chain that
    /// `token_ids` begins with, then new blocks. Returns the number of positions that need not be computed; at least
    /// one of `token_ids` is left, because its logits are needed.
    ///
    /// # Errors
    /// [`OutOfBlocks`] when too few are free; nothing has changed then.
    pub fn admit(
        &mut self,
        table: &mut Vec<BlockId>,
        token_ids: &[u32],
        tokens: usize,
    ) -> Result<usize, OutOfBlocks> {
        assert!(table.is_empty(), "a table is admitted twice");
        let known = &token_ids[..token_ids.len().min(tokens)];
        let sharable = known.split_last().map_or(&[][..], |(_, before)| before);
        let chain = self.known.longest(sharable, self.shape.block_tokens);
        let wanted = self.blocks_for(tokens) - chain.len();
        // A block cannot be both shared and evicted.
        let revived = chain.iter().filter(|block| self.usage_of(**block).owners == 0).count();
        if wanted + revived > self.free_count() {
            return Err(self.out_of_blocks(wanted + revived));
        }
        for &block in &chain {
            self.own(block);
        }
        let found = chain.len() * self.shape.block_tokens;
        *table = chain;
        self.extend(table, tokens)?;
        Ok(found)
    }

    /// A table's block at `index` is full and computed: others may share it from now on. Those before it are known.
    /// When another block has the same content, the table gets that one instead; rows do not depend on their batch,
    /// so the two are equal bit for bit.
    pub fn register(&mut self, table: &mut [BlockId], index: usize, token_ids: &[u32]) {
        assert_eq!(token_ids.len(), self.shape.block_tokens, "only full blocks are shared");
        let block = table[index];
        let parent = index.checked_sub(1).map(|before| table[before]);
        match self.known.child(parent, token_ids) {
            None => self.known.insert(block, parent, token_ids),
            Some(known) if known == block => {}
            Some(known) => {
                self.own(known);
                self.disown(block);
                table[index] = known;
            }
        }
    }

    /// Takes a whole block table back. What is known stays known until room is needed.
    pub fn release(&mut self, table: &mut Vec<BlockId>) {
        // From the end, so that a child is always released, and evicted, before its parent.
        for block in table.drain(..).rev() {
            self.disown(block);
        }
    }

    // -- internals

    fn out_of_blocks(&self, wanted: usize) -> OutOfBlocks {
        OutOfBlocks { wanted, free: self.free_count(), total: self.total() }
    }

    fn usage_of(&self, block: BlockId) -> Usage {
        self.usage[block.0 as usize]
    }

    /// A block that holds nothing, if need be after it has forgotten what nobody has used for the longest time.
    fn take(&mut self) -> Option<BlockId> {
        let block = self.free.pop().or_else(|| {
            let (_, block) = self.idle.pop_first()?;
            self.known.remove(block);
            Some(block)
        })?;
        self.usage[block.0 as usize].owners = 1;
        Some(block)
    }

    fn own(&mut self, block: BlockId) {
        let usage = &mut self.usage[block.0 as usize];
        if usage.owners == 0 {
            self.idle.remove(&usage.released);
        }
        usage.owners += 1;
    }

    fn disown(&mut self, block: BlockId) {
        let usage = &mut self.usage[block.0 as usize];
        assert!(usage.owners > 0, "block {} was released twice", block.0);
        usage.owners -= 1;
        if usage.owners > 0 {
            return;
        }
        if self.known.contains(block) {
            self.releases += 1;
            usage.released = self.releases;
            self.idle.insert(usage.released, block);
        } else {
            self.free.push(block);
        }
    }
}
