//! A configuration that is read again while the node runs.

use std::sync::{Arc, PoisonError};

use super::{Inner, Node, Part};
use crate::daemon::keeper::Command;
use crate::observe::status::Status;
use crate::thought::filter::Filter;

/// What is to be said of the configuration that was read last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// Why it is not in force, if it is not.
    pub trouble: Option<String>,
    /// Keys that were changed and that only a restart puts into force.
    pub waiting: Vec<String>,
}

/// Changes a running node.
#[derive(Clone)]
pub struct Handle(Arc<Inner>);

impl Node {
    /// What its configuration is changed by.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.inner))
    }
}

impl Handle {
    /// Takes note of what came of reading the configuration.
    pub fn configured(&self, configured: Configured) {
        *self.0.configured.lock().unwrap_or_else(PoisonError::into_inner) = configured;
    }

    /// Replicates by `filter` from now on; a standby would, were it the primary.
    pub async fn refilter(&self, filter: Filter) {
        match &self.0.part {
            Part::Primary { shared, keeper } => {
                // A keeper that has ended needs no filter.
                keeper.send(Command::Refilter(filter)).await.ok();
                shared.wake();
            }
            Part::Standby { context } => context.filters.change(filter),
        }
    }
}

impl Inner {
    pub(super) fn say_of_configuration(&self, status: &mut Status) {
        let Configured { trouble, waiting } = self.configured.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.alarms.extend(trouble);
        if !waiting.is_empty() {
            let keys = waiting.join(", ");
            status.warnings.push(format!("changed in the configuration, and in force only after a restart: {keys}"));
        }
    }
}
