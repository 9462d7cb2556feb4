//! A node that finds its state directory full when it starts: it can write down neither a reign nor where it stands, and so replicates nothing; it says
//! so, and begins by itself when there is room.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use super::explain;
use super::node::{NodeError, NodeOptions};
use super::unassigned::stuck;
use crate::control::{Refusal, RefusalClass, Request};
use crate::fs::Root;
use crate::observe::status::{RoleStatus, Status};
use crate::thought::wire::message::Role;

/// One percent of the state directory's disk must be free before it is tried again, and so much at most: a node that has as little left goes on, and
/// is held by what guards it.
const ENOUGH: u64 = 4 << 20;
/// So often is looked, and then tried.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What can be done.
const REMEDY: &str = "make room; it goes on by itself then";

/// Such a node.
pub struct Roomless {
    status: Status,
    why: String,
    state: PathBuf,
}

impl Roomless {
    /// The node of `options`, which could not start because of `error`.
    pub fn new(options: &NodeOptions, error: &NodeError) -> Self {
        let state = options.state.clone();
        let why = format!(
            "the disk of the state directory {} is full: its index and its counter cannot be kept there ({}), and nothing is replicated until there is room",
            state.display(),
            explain(error)
        );
        let role = match options.role {
            Role::Primary => RoleStatus::Primary,
            Role::Standby => RoleStatus::Standby,
        };
        tracing::error!("{why}");
        Self { status: stuck(options, role, &why, why.clone()), why, state }
    }

    /// Answers requests until there is room: true; or until `stop` is done.
    pub async fn serve(&self, requests: &mut mpsc::Receiver<Request>, stop: impl Future<Output = ()>) -> bool {
        tokio::pin!(stop);
        let mut look = tokio::time::interval(LOOK_EVERY);
        // The first is due at once.
        look.tick().await;
        loop {
            let request = tokio::select! {
                () = &mut stop => return false,
                _ = look.tick() => {
                    if self.has_room() {
                        tracing::info!("there is room in the state directory; starting");
                        return true;
                    }
                    continue;
                }
                request = requests.recv() => request,
            };
            match request {
                Some(Request::Status(reply)) => reply.send(Ok(self.status.clone())),
                Some(request) => request.refuse(Refusal::new(RefusalClass::Guard, &self.why).hint(REMEDY)),
                None => return false,
            }
        }
    }

    fn has_room(&self) -> bool {
        let space = Root::open(&self.state).and_then(|state| state.space());
        space.is_ok_and(|space| space.available_bytes >= (space.total_bytes / 100).clamp(1, ENOUGH))
    }
}
