//! What is replicated, as it is now: a configuration that is read again changes it under a running node.

use std::sync::{Arc, PoisonError, RwLock};

use crate::thought::filter::{Filter, Rules};

/// The filter of a node. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Filters(Arc<RwLock<Filter>>);

impl Filters {
    /// It begins with `filter`.
    pub fn new(filter: Filter) -> Self {
        Self(Arc::new(RwLock::new(filter)))
    }

    /// The filter as it is now.
    pub fn now(&self) -> Filter {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its rules.
    pub fn rules(&self) -> Rules {
        self.0.read().unwrap_or_else(PoisonError::into_inner).rules().clone()
    }

    /// Another one, from now on.
    pub fn change(&self, filter: Filter) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = filter;
    }
}
