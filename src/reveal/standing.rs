//! Where a replica stands, as its index remembers it: facts that change in one commit with the tree.

use serde::{Deserialize, Serialize};

use super::ReplicaError;
use super::replica::Replica;
use crate::thought::generation::{Claim, Header};
use crate::thought::store::{ReadStore, Store, Table};
use crate::thought::tree::TreeError;
use crate::thought::wire::message::UnheldCounts;
use crate::words::entry::Digest;
use crate::words::position::{ChainDigest, ClusterId, HomeId, Position, ReignId};

/// Fact: where the replica stands. An index without it was never finished.
const STANDING_FACT: &[u8] = b"standing";
/// Fact: what the disk cannot hold of the tree, with the digest of the abilities it was counted by.
const UNHELD_FACT: &[u8] = b"unheld";
/// Fact: there if what the next generation replaces belongs to no generation.
const KEEPS_REPLACED_FACT: &[u8] = b"keeps-replaced";
/// Fact: how many paths differ from the generation it stood at, if any do. The tree says what is on the disk.
const STRAYED_FACT: &[u8] = b"strayed";
/// Fact: what the generation it stands at claims ([`Claim`]).
const CLAIM_FACT: &[u8] = b"claim";

/// Where a replica stands: what its tree is the state of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Standing {
    /// The cluster.
    pub cluster: ClusterId,
    /// The home.
    pub home: HomeId,
    /// The reign it last accepted a generation of.
    pub reign: ReignId,
    /// The generation.
    pub position: Position,
    /// The history that led there.
    pub chain: ChainDigest,
    /// The tree digest.
    pub tree: Digest,
}

impl Replica {
    /// Takes over what the index says of the standing; false if it says nothing.
    pub(super) fn read_standing(&mut self) -> Result<bool, ReplicaError> {
        let fact = |name| self.tree.store().get(Table::Facts, name).map_err(TreeError::from);
        let Some(standing) = fact(STANDING_FACT)?.and_then(|bytes| postcard::from_bytes(&bytes).ok()) else {
            return Ok(false);
        };
        self.keeps_replaced = fact(KEEPS_REPLACED_FACT)?.is_some();
        let counted = fact(UNHELD_FACT)?.and_then(|bytes| postcard::from_bytes::<(UnheldCounts, Digest)>(&bytes).ok());
        if let Some((unheld, _)) = counted.filter(|(_, by)| *by == self.able.digest()) {
            (self.unheld, self.is_counted) = (unheld, true);
        }
        self.strayed = fact(STRAYED_FACT)?.and_then(|count| count.try_into().ok()).map(u64::from_be_bytes);
        self.claim = fact(CLAIM_FACT)?.and_then(|bytes| Claim::decode(&bytes));
        self.standing = standing;
        Ok(true)
    }

    pub(super) fn stand_at(&mut self, header: &Header) -> Result<(), ReplicaError> {
        self.standing = Standing {
            cluster: header.cluster,
            home: header.home,
            reign: header.reign,
            position: header.position,
            chain: header.chain(),
            tree: header.tree_after,
        };
        self.set_claim(Some(header.claim()))?;
        // From here on the mark in its stage says so.
        self.set_keeps_replaced(false)?;
        self.set_strayed(None)?;
        self.write_standing()
    }

    pub(super) fn set_claim(&mut self, claim: Option<Claim>) -> Result<(), ReplicaError> {
        let store = self.tree.store_mut();
        let done = match &claim {
            Some(claim) => store.put(Table::Facts, CLAIM_FACT.to_vec(), claim.encode()),
            None => store.delete(Table::Facts, CLAIM_FACT),
        };
        done.map_err(TreeError::from)?;
        self.claim = claim;
        Ok(())
    }

    pub(super) fn set_strayed(&mut self, count: Option<u64>) -> Result<(), ReplicaError> {
        if self.strayed != count {
            let store = self.tree.store_mut();
            let done = match count {
                Some(count) => store.put(Table::Facts, STRAYED_FACT.to_vec(), count.to_be_bytes().to_vec()),
                None => store.delete(Table::Facts, STRAYED_FACT),
            };
            done.map_err(TreeError::from)?;
            self.strayed = count;
        }
        Ok(())
    }

    pub(super) fn write_standing(&mut self) -> Result<(), ReplicaError> {
        let bytes = postcard::to_allocvec(&self.standing).unwrap_or_default();
        let store = self.tree.store_mut();
        store.put(Table::Facts, STANDING_FACT.to_vec(), bytes).map_err(TreeError::from)?;
        if self.is_counted {
            let counted = postcard::to_allocvec(&(self.unheld, self.able.digest())).unwrap_or_default();
            store.put(Table::Facts, UNHELD_FACT.to_vec(), counted).map_err(TreeError::from)?;
        } else {
            store.delete(Table::Facts, UNHELD_FACT).map_err(TreeError::from)?;
        }
        Ok(())
    }

    pub(super) fn set_keeps_replaced(&mut self, keeps: bool) -> Result<(), ReplicaError> {
        if self.keeps_replaced != keeps {
            let store = self.tree.store_mut();
            let done = match keeps {
                true => store.put(Table::Facts, KEEPS_REPLACED_FACT.to_vec(), Vec::new()),
                false => store.delete(Table::Facts, KEEPS_REPLACED_FACT),
            };
            done.map_err(TreeError::from)?;
            self.keeps_replaced = keeps;
        }
        Ok(())
    }
}
