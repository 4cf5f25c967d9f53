//! Which computed cache blocks hold which tokens: a tree whose edges are the token ids of full blocks.
//!
//! A block is named by its parent and its own token ids, compared whole: a hash that collides would answer one client
//! with another one's prompt.

use model::executor::BlockId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Knows at most as many blocks as the cache has. `None` as a parent is the start of a sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrefixTree {
    nodes: BTreeMap<BlockId, Node>,
    /// Without empty maps.
    children: BTreeMap<Option<BlockId>, BTreeMap<Arc<[u32]>, BlockId>>,
}

#[derive(Clone, Debug)]
struct Node {
    parent: Option<BlockId>,
    token_ids: Arc<[u32]>,
}

impl PrefixTree {
    pub(crate) fn contains(&self, block: BlockId) -> bool {
        self.nodes.contains_key(&block)
    }

    pub(crate) fn child(&self, parent: Option<BlockId>, token_ids: &[u32]) -> Option<BlockId> {
        self.children.get(&parent)?.get(token_ids).copied()
    }

    /// The longest known chain of whole blocks of `block_tokens` that `token_ids` begins with, from the start on.
    pub(crate) fn longest(&self, token_ids: &[u32], block_tokens: usize) -> Vec<BlockId> {
        let mut chain = Vec::new();
        for token_ids in token_ids.chunks_exact(block_tokens) {
            match self.child(chain.last().copied(), token_ids) {
                Some(block) => chain.push(block),
                None => break,
            }
        }
        chain
    }

    /// Makes a computed block known. Its parent is known, and no child of the parent has these token ids.
    pub(crate) fn insert(&mut self, block: BlockId, parent: Option<BlockId>, token_ids: &[u32]) {
        assert!(parent.is_none_or(|parent| self.contains(parent)), "the parent is not known");
        let token_ids: Arc<[u32]> = token_ids.into();
        let other = self.children.entry(parent).or_default().insert(Arc::clone(&token_ids), block);
        assert!(other.is_none(), "the same tokens are known twice");
        let before = self.nodes.insert(block, Node { parent, token_ids });
        assert!(before.is_none(), "block {} is known already", block.0);
    }

    /// Forgets a block without children.
    pub(crate) fn remove(&mut self, block: BlockId) {
        assert!(!self.children.contains_key(&Some(block)), "block {} has children", block.0);
        let Some(Node { parent, token_ids }) = self.nodes.remove(&block) else { return };
        if let Some(siblings) = self.children.get_mut(&parent) {
            siblings.remove(&token_ids);
            if siblings.is_empty() {
                self.children.remove(&parent);
            }
        }
    }
}
