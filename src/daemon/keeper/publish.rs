//! What becomes of a cut: the tree follows it, and a generation of it goes into the window.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::answers::renames_of;
use super::work::{Keeper, KeeperError};
use crate::capture::Cut;
use crate::daemon::window::{Operations as Shipped, Shipment};
use crate::reveal::Records;
use crate::spool::Spool;
use crate::thought::generation::{HEADER_VERSION, Header, Joint, Operation, OperationsDigest, Quality, Section};
use crate::thought::plan::{Captures, learn};
use crate::thought::tree::{ApplyError, Arrived, Operations, Row, Witness};
use crate::words::position::Position;

impl Keeper {
    /// Applies a cut to the tree and puts it into the window; its steps are taken out of it. One of which the payloads were not kept (`ships` was false) cannot be shipped, and the window begins anew after it.
    pub(super) fn publish(
        &mut self,
        mut cut: Cut,
        spool: Spool,
        ships: bool,
        is_wanted: bool,
    ) -> Result<Cut, KeeperError> {
        let tree_before = self.tree.digest()?;
        let count = cut.steps.len() as u64;
        let renames = if self.views.is_empty() { BTreeMap::new() } else { renames_of(&cut.steps) };
        let mut operations = Records::new(Spool::create(&self.options.state)?);
        let mut digest = OperationsDigest::default();
        // They go to disk before the tree follows them: what that takes need not stand in memory beside them.
        for step in std::mem::take(&mut cut.steps) {
            let encoded = step.operation.encode();
            digest.update(&encoded);
            let offset = step.spooled.map_or(0, |spooled| spooled.offset);
            operations.push(step.operation.action.section(), &[&offset.to_le_bytes()[..], &encoded].concat())?;
        }
        self.apply(&Located(&operations), &cut.captures)?;
        let tree_after = self.tree.digest()?;
        for view in self.views.values_mut() {
            view.note(&renames, &cut.captures);
        }
        // A standby that is caught up gets a position of its own, so that it goes forward even where nothing changed.
        if count == 0 && !is_wanted {
            return Ok(cut);
        }
        let parent = self.position;
        let header = Header {
            required_features: 0,
            optional_features: 0,
            cluster: self.options.cluster,
            home: self.options.home_id,
            reign: self.options.reign.id,
            position: Position { epoch: self.options.reign.epoch, generation: parent.generation + 1 },
            parent,
            parent_chain: self.chain,
            joint: Joint::Next,
            tree_before,
            tree_after,
            quality: self.quality(&cut.quality),
            deferred: cut.deferred.clone(),
            filter: self.options.filter.digest(),
            cut_time: cut.cut_time,
            oldest_change: cut.oldest_change,
            operations: count,
            operations_digest: digest.finish(),
            extensions: Vec::new(),
        };
        debug_assert_eq!(HEADER_VERSION, 1, "the fields above are those of version 1");
        self.position = header.position;
        self.chain = header.chain();
        self.count(&header);
        tracing::debug!(position = %header.position, operations = header.operations, quality = %header.quality, "generation");
        if ships {
            let (operations, payloads, payload_bytes) = (Shipped::new(operations)?, spool.reader(), spool.end());
            let shipment = Shipment { header, operations, payloads, payload_bytes };
            self.shared.push(Arc::new(shipment), &self.options.state);
        } else {
            self.shared.window().skip_to((self.position, self.chain));
            self.shared.head.send_replace(self.position);
        }
        Ok(cut)
    }

    pub(super) fn apply(&mut self, operations: &dyn Operations, captures: &Captures) -> Result<(), KeeperError> {
        let position = self.position;
        let mut captured = Captured(captures);
        self.tree.apply(operations, &mut captured).map_err(|source| KeeperError::Apply { position, source })?;
        learn(&mut self.tree, captures)?;
        Ok(())
    }

    pub(super) fn quality(&self, proven: &Quality) -> Quality {
        let mut reasons = self.standing_doubts.clone();
        match proven {
            Quality::Fuzzy(more) => reasons.extend(more.iter().copied()),
            _ if reasons.is_empty() => return proven.clone(),
            _ => {}
        }
        Quality::Fuzzy(reasons.into_iter().collect())
    }

    fn count(&self, header: &Header) {
        let mut report = self.shared.report();
        let (word, reasons) = header.quality.told();
        for reason in reasons {
            *report.by_reason.entry(*reason).or_default() += 1;
        }
        *report.by_quality.entry(word).or_default() += 1;
        report.quality = Some((header.quality.clone(), header.deferred.clone()));
    }
}

/// Operations as the window keeps them: each behind where its payload begins.
struct Located<'a>(&'a Records);

impl Operations for Located<'_> {
    fn visit(
        &self,
        section: Section,
        visit: &mut dyn FnMut(Operation) -> Result<(), ApplyError>,
    ) -> Result<(), ApplyError> {
        self.0.of_section(section, &mut |bytes| {
            let encoded = bytes.get(size_of::<u64>()..).unwrap_or_default();
            visit(Operation::decode(encoded).map_err(|error| ApplyError::Source(Box::new(error)))?)
        })
    }
}

/// Gives the tree what was captured of each entry.
struct Captured<'a>(&'a Captures);

impl Witness for Captured<'_> {
    fn step(&mut self, operation: &Operation, _: Option<&Row>) -> Result<Option<Arrived>, ApplyError> {
        let found = self.0.get(operation.action.path()).and_then(Option::as_ref);
        Ok(found.map(|present| Arrived { inode: present.inode, memory: present.memory.clone() }))
    }
}
