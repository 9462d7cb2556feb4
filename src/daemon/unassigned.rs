//! A node whose state belongs elsewhere: a clone of a volume, a copied directory, a home that was replaced.
//!
//! It has no role. It neither watches its home nor writes to it, and neither dials nor is dialed, so it can be no second primary, nor a second one of
//! itself. It says what the matter is until a person gives it a state of its own, or says, by `hotspare release`, that it was moved on purpose.

use tokio::sync::mpsc;

use super::memory::Memory;
use super::node::NodeOptions;
use crate::control::{Refusal, RefusalClass, ReleaseOutcome, Request};
use crate::net::identity::Identity;
use crate::observe::status::{NodeStatus, ReignStatus, RoleStatus, State, Status};

/// Such a node.
pub struct Unassigned {
    status: Status,
    why: String,
}

/// What ended it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was told to end.
    Stopped,
    /// It was moved on purpose, says a person.
    Released,
}

/// What can be done.
const REMEDY: &str = "if it is a copy, give this node an empty state directory; if it was moved and the old place is gone, run `hotspare release`";

impl Unassigned {
    /// The node of `options`, of whose state `why` says where it belongs.
    pub fn new(options: &NodeOptions, why: &str) -> Self {
        let why = format!("this node has no role and replicates nothing: {why}");
        let status = stuck(options, RoleStatus::Unassigned, &why, format!("{why}; {REMEDY}"));
        tracing::error!("{why}; {REMEDY}");
        Self { status, why }
    }

    /// Answers requests until `stop` is done, or somebody says that it was moved.
    pub async fn serve(&self, requests: &mut mpsc::Receiver<Request>, stop: impl Future<Output = ()>) -> Outcome {
        tokio::pin!(stop);
        loop {
            let request = tokio::select! {
                () = &mut stop => return Outcome::Stopped,
                request = requests.recv() => request,
            };
            match request {
                Some(Request::Status(reply)) => reply.send(Ok(self.status.clone())),
                Some(Request::Release(reply)) => {
                    tracing::warn!("released: the state belongs here from now on");
                    reply.send(Ok(ReleaseOutcome { released: vec!["the state directory belongs here".to_owned()] }));
                    return Outcome::Released;
                }
                Some(request) => request.refuse(Refusal::new(RefusalClass::Guard, &self.why).hint(REMEDY)),
                None => return Outcome::Stopped,
            }
        }
    }
}

/// The status of a node that cannot begin, as far as its state directory tells.
pub(super) fn stuck(options: &NodeOptions, role: RoleStatus, why: &str, alarm: String) -> Status {
    let node = NodeStatus {
        name: options.name.to_string(),
        id: Identity::load(&options.state).map(|identity| identity.id().to_string()).unwrap_or_default(),
        role,
        instance: String::new(),
        pid: std::process::id(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut status = Status::starting(node, options.home.display().to_string());
    if let Ok(memory) = Memory::load(&options.state) {
        status.home.id = memory.home.map(|home| home.to_string());
        status.reign = memory.reign().map(|reign| ReignStatus { id: reign.id.to_string(), epoch: reign.epoch });
    }
    status.state = State::Stuck;
    status.promotable.why_not.push(why.to_owned());
    status.alarms.push(alarm);
    status
}
