//! A set of tokens that may come next: immutable, shared, as wide as the vocabulary.

use std::sync::Arc;

use crate::vocab::TokenId;

/// A set of tokens; cloning shares it.
#[derive(Clone, Debug)]
pub struct Mask {
    ids: Arc<[TokenId]>,
}

impl Mask {
    /// The set of these ids.
    pub fn from_ids(mut ids: Vec<TokenId>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self { ids: ids.into() }
    }

    /// Calls `visit` for every token, ascending.
    pub fn for_each(&self, visit: impl FnMut(TokenId)) {
        self.ids.iter().copied().for_each(visit);
    }

    /// True when the token is in the set.
    pub fn contains(&self, id: TokenId) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Number of tokens.
    pub fn count(&self) -> usize {
        self.ids.len()
    }
}
