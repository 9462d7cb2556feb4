//! What is replicated here: numbers under names.

use std::collections::BTreeMap;

use crate::thought::wire::message::{Child, Listing};
use crate::words::entry::{Body, Digest, Entry, Proof, Timestamp, Xattrs};
use crate::words::path::Name;

/// A home: a number other than 0 under each name.
///
/// An operation *adds* to a number, so what is applied twice, or to another state than it was made from, is seen.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Content(BTreeMap<u8, u32>);

impl Content {
    pub(super) fn digest(&self) -> Digest {
        let bytes: Vec<u8> = self.0.iter().flat_map(|(name, value)| operation(*name, *value)).collect();
        Digest::of(&bytes)
    }

    /// Applies one operation; what is none changes nothing.
    pub(super) fn apply(&mut self, operation: &[u8]) {
        let Some((name, Ok(delta))) = operation.split_first().map(|(name, rest)| (*name, rest.try_into())) else {
            return;
        };
        let value = self.0.entry(name).or_default();
        *value = value.wrapping_add(u32::from_le_bytes(delta));
        if *value == 0 {
            self.0.remove(&name);
        }
    }

    /// The operations that lead from here to `target`.
    pub(super) fn difference(&self, target: &Self) -> Vec<Vec<u8>> {
        let names: std::collections::BTreeSet<u8> = self.0.keys().chain(target.0.keys()).copied().collect();
        let value = |content: &Self, name| content.0.get(&name).copied().unwrap_or(0);
        let delta = |name| (name, value(target, name).wrapping_sub(value(self, name)));
        names
            .into_iter()
            .map(delta)
            .filter(|(_, delta)| *delta != 0)
            .map(|(name, delta)| operation(name, delta))
            .collect()
    }

    /// Something that Jenkins does.
    pub(super) fn write(&mut self, name: u8, delta: u32) {
        self.apply(&operation(name, delta));
    }

    /// The digest of each number that differs from `other`'s.
    pub(super) fn values_unlike(&self, other: &Self) -> Vec<Digest> {
        let is_other = |(name, value): &(&u8, &u32)| other.0.get(name) != Some(value);
        self.0.iter().filter(is_other).map(|(_, value)| Digest::of(&value.to_le_bytes())).collect()
    }

    pub(super) fn has_value(&self, digest: Digest) -> bool {
        self.0.values().any(|value| Digest::of(&value.to_le_bytes()) == digest)
    }

    pub(super) fn listing(&self) -> Listing {
        let children = self.0.iter().map(|(name, value)| Child {
            name: Name::parse(format!("{name:03}").as_bytes()).unwrap(),
            entry: entry(Body::File { size: u64::from(*value), digest: Digest::default(), proof: Proof::Hashed }),
            digest: Digest::default(),
        });
        Listing { directory: Some((entry(Body::Directory), self.digest())), children: children.collect(), more: false }
    }

    pub(super) fn of(listing: &Listing) -> Self {
        let number = |child: &Child| {
            let name = std::str::from_utf8(child.name.as_bytes()).unwrap().parse().unwrap();
            (name, u32::try_from(child.entry.size()).unwrap())
        };
        Self(listing.children.iter().map(number).collect())
    }
}

fn operation(name: u8, delta: u32) -> Vec<u8> {
    [&[name][..], &delta.to_le_bytes()].concat()
}

fn entry(body: Body) -> Entry {
    let (mode, mtime) = (0o644, Timestamp::default());
    Entry { body, mode, uid: 0, gid: 0, mtime, xattrs: Xattrs::default(), link: None }
}
