//! The window: recent generations, encoded once, kept for every standby that follows.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::reveal::Records;
use crate::spool::SpoolReader;
use crate::thought::generation::Header;
use crate::words::position::{ChainDigest, Position};

/// One generation, ready to be shipped any number of times.
#[derive(Debug)]
pub struct Shipment {
    /// Its header.
    pub header: Header,
    /// Each operation, preceded by where its payload begins (`u64` little-endian; 0 if it has none).
    pub operations: Records,
    /// The payloads.
    pub payloads: SpoolReader,
    /// How many bytes the payloads and operations take.
    pub bytes: u64,
}

/// Recent generations of one chain, oldest first.
#[derive(Debug)]
pub struct Window {
    shipments: VecDeque<Arc<Shipment>>,
    bytes: u64,
    cap_bytes: u64,
    /// Where the primary stands.
    head: (Position, ChainDigest),
}

/// What a standby at some point of the chain gets next.
#[derive(Debug)]
pub enum Next {
    /// This.
    Shipment(Arc<Shipment>),
    /// Nothing yet: it is up to date.
    Wait,
    /// It must be caught up by comparing trees.
    CatchUp,
}

impl Window {
    /// An empty window that keeps `cap_bytes` at most.
    pub fn new(cap_bytes: u64, head: (Position, ChainDigest)) -> Self {
        Self { shipments: VecDeque::new(), bytes: 0, cap_bytes, head }
    }

    /// Adds the next generation.
    pub fn push(&mut self, shipment: Arc<Shipment>) {
        self.head = (shipment.header.position, shipment.header.chain());
        self.bytes += shipment.bytes;
        self.shipments.push_back(shipment);
        while self.bytes > self.cap_bytes && self.shipments.len() > 1 {
            if let Some(oldest) = self.shipments.pop_front() {
                self.bytes -= oldest.bytes;
            }
        }
    }

    /// The chain goes on at `head`, with a generation that nobody was there to receive.
    pub fn skip_to(&mut self, head: (Position, ChainDigest)) {
        self.shipments.clear();
        self.bytes = 0;
        self.head = head;
    }

    /// What follows `chain`.
    pub fn after(&self, chain: ChainDigest) -> Next {
        if chain == self.head.1 {
            return Next::Wait;
        }
        match self.shipments.iter().find(|shipment| shipment.header.parent_chain == chain) {
            Some(shipment) => Next::Shipment(Arc::clone(shipment)),
            None => Next::CatchUp,
        }
    }

    /// The oldest change in the generations after `position`.
    pub fn oldest_change_after(&self, position: Position) -> Option<crate::words::entry::Timestamp> {
        let later = self.shipments.iter().filter(|shipment| shipment.header.position > position);
        later.map(|shipment| shipment.header.oldest_change).min()
    }

    /// Where the primary stands.
    pub fn head(&self) -> (Position, ChainDigest) {
        self.head
    }
}
