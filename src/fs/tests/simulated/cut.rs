//! What of a disk a power cut leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::disk::Disk;
use super::image::{Content, File, Key, Names, Node, PAGE, ROOT, SECTOR, What};
use crate::thought::dice::Dice;

/// What of the changes that were not synced a power cut leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaves {
    /// None of them.
    Nothing,
    /// All: as after `kill -9`.
    Everything,
    /// Names, attributes and lengths; of the bytes none.
    Names,
    /// Bytes and lengths; of names and attributes none.
    Bytes,
    /// Names and attributes up to some change; of each file any length that it had, of each page any version, or the beginning of one and the
    /// end of another.
    Some(u64),
}

impl Disk {
    /// What is there after a power cut now.
    pub(crate) fn after_power_cut(&self, leaves: Leaves) -> Self {
        let Some(medium) = &self.medium else { return self.clone() };
        let mut dice = Dice::new(if let Leaves::Some(seed) = leaves { seed } else { 0 });
        let count = match leaves {
            Leaves::Nothing | Leaves::Bytes => 0,
            Leaves::Everything | Leaves::Names => medium.changes.len(),
            Leaves::Some(_) => dice.index(medium.changes.len() + 1),
        };
        let names = count.checked_sub(1).map_or(&medium.durable, |last| &medium.changes[last].names);
        let mut names = names.as_ref().clone();
        for (key, (at, node)) in &medium.synced {
            if let Some(found) = names.get_mut(key).filter(|_| *at > medium.first + count as u64) {
                let Node { ino, links, .. } = **found;
                *found = Arc::new(Node { ino, links, ..node.as_ref().clone() });
            }
        }
        let names = reachable(names);
        let mut files = BTreeMap::new();
        for (key, _) in names.iter().filter(|(_, node)| node.what == What::File) {
            let content = self.files.get(key).map_or_else(Content::default, |file| left(file, leaves, &mut dice));
            files.insert(*key, Arc::new(File::settled(content)));
        }
        let numbers = names.iter().map(|(key, node)| (node.ino, *key)).collect();
        Self { names: Arc::new(names), files, numbers, medium: None, ..*self }
    }
}

/// What of a file a power cut leaves.
fn left(file: &File, leaves: Leaves, dice: &mut Dice) -> Content {
    match leaves {
        Leaves::Nothing => file.durable.clone(),
        Leaves::Everything | Leaves::Bytes => file.live.clone(),
        Leaves::Names => {
            let mut content = file.durable.clone();
            content.resize(file.live.size);
            content
        }
        Leaves::Some(_) => {
            let sizes: Vec<u64> = file.sizes.iter().copied().chain([file.durable.size]).collect();
            let size = sizes[dice.index(sizes.len())];
            let mut content = file.durable.clone();
            for (number, versions) in &file.between {
                let mut pick = || match dice.index(versions.len() + 1) {
                    0 => file.durable.pages.get(number).cloned(),
                    version => versions[version - 1].clone(),
                };
                let (first, second) = (pick(), pick());
                let torn = dice.index(PAGE / SECTOR) * SECTOR;
                let page = match (first, second) {
                    (Some(first), Some(second)) if dice.index(4) == 0 => {
                        let mut page = *first;
                        page[torn..].copy_from_slice(&second[torn..]);
                        Some(Arc::new(page))
                    }
                    (first, _) => first,
                };
                match page {
                    Some(page) => content.pages.insert(*number, page),
                    None => content.pages.remove(number),
                };
            }
            // Beyond the end there is nothing.
            content.size = u64::MAX;
            content.resize(size);
            content
        }
    }
}

/// What has a name, with as many links as it has names.
fn reachable(mut names: Names) -> Names {
    let mut found = BTreeSet::new();
    let mut below = vec![ROOT];
    while let Some(key) = below.pop() {
        if found.insert(key) {
            below.extend(names.get(&key).and_then(|node| node.children()).into_iter().flat_map(BTreeMap::values));
        }
    }
    names.retain(|key, _| found.contains(key));
    let mut links: BTreeMap<Key, u32> = BTreeMap::from([(ROOT, 2)]);
    for node in names.values() {
        for child in node.children().into_iter().flat_map(BTreeMap::values) {
            *links.entry(*child).or_default() += 1;
        }
    }
    for (key, node) in &mut names {
        let count = if node.children().is_some() { 2 } else { links.get(key).copied().unwrap_or(0) };
        if node.links != count {
            Arc::make_mut(node).links = count;
        }
    }
    names
}
