//! Names that came lately, and which files they were names of.
//!
//! What is written under a name that is gone when a cut looks at it may have been written to a file that is there all the same: the name was a
//! second one, made, written through and removed. The watch looks at each new name as soon as it is heard of, and what it saw tells the file.
//! Where it came too late the file could be any, and the home is compared with the tree.
//!
//! It may have come too late and seen a later file of the same name. Then the look for that one sees the same inode again, or one that is later still,
//! and so on: in the end one sees what another has seen before, or nothing. So it is kept what was seen of the files that had a name one after the
//! other.
//!
//! It may have come while the name was being taken away. The kernel takes it from the count of links before it takes it out of sight, so a second
//! name may be seen as the only one: that it was the only one is believed as long as the name is there.

use std::collections::BTreeMap;

use crate::words::entry::{Inode, InodeId};
use crate::words::path::RelPath;

/// Beyond so many names, those that were seen to be the only ones of their files are not kept.
const NAMES_CAP: usize = 100_000;
/// Of a name that was another file's so often between two cuts no more is kept.
const EARLIER_CAP: usize = 1000;

/// A name that came, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fresh {
    /// What it led to when it was heard of.
    seen: Option<Inode>,
    /// That cannot have been another one of the same name.
    is_sure: bool,
    /// Something was written under it, or may have been.
    is_written: bool,
    /// The file was known by another name. Whatever becomes of it, the tree knows its names.
    is_known: bool,
    is_gone: bool,
}

impl Fresh {
    pub(super) fn seen(seen: Option<Inode>) -> Self {
        Self { seen, is_sure: false, is_written: false, is_known: false, is_gone: false }
    }

    /// A name of a file that has been known for longer, as `known` if the tree has it, and was seen as `seen`.
    pub(super) fn known(known: Option<Inode>, seen: Option<Inode>) -> Self {
        Self { is_known: true, is_sure: known.is_some(), ..Self::seen(known.or(seen)) }
    }

    /// The same file under another name, where it was seen as `seen`.
    pub(super) fn or_seen(self, seen: Option<Inode>) -> Self {
        Self { seen: self.seen.or(seen), is_gone: false, ..self }
    }

    fn written(self) -> Written {
        match self.seen {
            _ if self.is_known => Written::Here,
            Some(inode) if inode.nlink > 1 || self.is_gone => Written::Linked(inode.id),
            None if self.is_gone => Written::Any,
            _ => Written::Here,
        }
    }

    /// What was written under it may have been written to any file.
    pub(super) fn is_any(self) -> bool {
        self.is_written && self.seen.is_none()
    }
}

/// What something was written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Written {
    /// What the name leads to.
    Here,
    /// That, and it may have other names.
    Linked(InodeId),
    /// Nobody knows: the name is gone.
    Any,
}

/// A name, and who has it.
#[derive(Debug)]
struct Bearer {
    fresh: Fresh,
    /// Something was written under it before that.
    was_written: bool,
    /// What was seen of those who had it then, where that may have been one who had it later.
    earlier: Vec<Inode>,
    /// A cut was made since it came.
    is_cut: bool,
}

impl Bearer {
    /// What was written to under the name that goes, as far as it was not known before.
    fn goes(&mut self) -> Written {
        if std::mem::replace(&mut self.fresh.is_gone, true) {
            return Written::Here;
        }
        match self.fresh.seen {
            None if self.was_written => Written::Any,
            // How many names there are is part of what the others are, though that was written was told before.
            Some(inode) if inode.nlink > 1 => Written::Linked(inode.id),
            _ if self.fresh.is_written => self.fresh.written(),
            _ => Written::Here,
        }
    }

    /// The next of its name, and what was written to under it before, as far as that is known only now.
    fn next(mut self, fresh: Fresh) -> (Self, Written) {
        let was_written = self.was_written || self.fresh.is_written;
        let replaced = self.goes();
        let mut earlier = self.earlier;
        earlier.extend(self.fresh.seen.filter(|_| !self.fresh.is_sure));
        let is_late = fresh.seen.is_some_and(|inode| earlier.iter().any(|known| known.is_same(&inode)));
        let next = Self { fresh, was_written, earlier, is_cut: false };
        match was_written {
            true if is_late || replaced == Written::Any || next.earlier.len() > EARLIER_CAP => {
                (fresh.into(), Written::Any)
            }
            true => (next, replaced),
            false => (fresh.into(), replaced),
        }
    }
}

impl From<Fresh> for Bearer {
    /// The first of its name.
    fn from(fresh: Fresh) -> Self {
        Self { fresh, was_written: false, earlier: Vec::new(), is_cut: false }
    }
}

/// Those names.
#[derive(Debug, Default)]
pub(super) struct Fleeting(BTreeMap<RelPath, Bearer>);

impl Fleeting {
    /// `path` came to be a name of `fresh`. What was written to under it by what is known only now: before it came, and since.
    pub(super) fn came(&mut self, path: &RelPath, fresh: Fresh) -> [Written; 2] {
        let (bearer, replaced) = match self.0.remove(path) {
            Some(before) => before.next(fresh),
            None => (fresh.into(), Written::Here),
        };
        self.0.insert(path.clone(), bearer);
        if !self.has_room() {
            return [Written::Any, Written::Here];
        }
        [replaced, if fresh.is_written { fresh.written() } else { Written::Here }]
    }

    /// Something was written under `path`.
    pub(super) fn written(&mut self, path: &RelPath) -> Written {
        let Some(Bearer { fresh, .. }) = self.0.get_mut(path) else { return Written::Here };
        fresh.is_written = true;
        fresh.written()
    }

    /// The name `path` went.
    pub(super) fn went(&mut self, path: &RelPath) -> Written {
        self.0.get_mut(path).map_or(Written::Here, Bearer::goes)
    }

    /// The file moves from `path` to another name; what is known of it.
    pub(super) fn moves(&mut self, path: &RelPath) -> Option<Fresh> {
        let Bearer { fresh, .. } = self.0.get_mut(path).filter(|bearer| !bearer.fresh.is_gone)?;
        let moving = *fresh;
        fresh.is_gone = true;
        Some(moving)
    }

    /// Of other names than those `is_wanted` of a cut knows all, unless what became of one was not told yet, or that a look at it was too late and saw
    /// a later file: that one is told of by the next cut.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&RelPath) -> bool) {
        self.0.retain(|path, Bearer { fresh, was_written, is_cut, .. }| {
            let is_untold = fresh.seen.is_none() && !fresh.is_gone && !fresh.is_known;
            let may_be_late = (fresh.is_written || *was_written) && !fresh.is_sure;
            let is_first = !std::mem::replace(is_cut, true);
            is_wanted(path) || is_untold || (may_be_late && is_first)
        });
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    fn has_room(&mut self) -> bool {
        if self.0.len() < NAMES_CAP {
            return true;
        }
        self.0.retain(|_, Bearer { fresh, .. }| !fresh.is_gone && fresh.seen.is_none_or(|inode| inode.nlink > 1));
        let has_room = self.0.len() < NAMES_CAP / 2;
        if !has_room {
            self.0.clear();
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [Written; 2] = [Written::Here; 2];

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn inode(ino: u64, nlink: u32) -> Option<Inode> {
        Some(Inode { id: InodeId { dev: 1, ino }, nlink, ..Inode::default() })
    }

    #[test]
    fn what_is_written_under_a_name_that_was_seen_is_written_to_that_file() {
        let mut fleeting = Fleeting::default();
        assert_eq!(fleeting.came(&path("one"), Fresh::seen(inode(7, 1))), NOTHING);
        assert_eq!(fleeting.came(&path("two"), Fresh::seen(inode(8, 2))), NOTHING);
        assert_eq!(fleeting.written(&path("one")), Written::Here);
        assert_eq!(fleeting.written(&path("two")), Written::Linked(InodeId { dev: 1, ino: 8 }));
        assert_eq!(fleeting.went(&path("one")), Written::Linked(InodeId { dev: 1, ino: 7 }), "it may have had others");
        assert_eq!(fleeting.went(&path("two")), Written::Linked(InodeId { dev: 1, ino: 8 }), "it has a name less");
        assert_eq!(fleeting.written(&path("old")), Written::Here, "a name that was there before");
        assert_eq!(
            fleeting.written(&path("two")),
            Written::Linked(InodeId { dev: 1, ino: 8 }),
            "by one that has it open"
        );
    }

    #[test]
    fn what_was_written_under_a_name_that_nobody_saw_may_be_in_any_file_unless_it_is_seen_elsewhere() {
        let mut fleeting = Fleeting::default();
        let come = |fleeting: &mut Fleeting, name: &str| {
            assert_eq!(fleeting.came(&path(name), Fresh::seen(None)), NOTHING);
            assert_eq!(fleeting.written(&path(name)), Written::Here);
        };
        come(&mut fleeting, "gone");
        assert_eq!(fleeting.went(&path("gone")), Written::Any);
        assert_eq!(fleeting.went(&path("gone")), Written::Here, "told twice");
        assert_eq!(fleeting.written(&path("gone")), Written::Any);

        assert_eq!(fleeting.came(&path("empty"), Fresh::seen(None)), NOTHING);
        assert_eq!(fleeting.went(&path("empty")), Written::Here, "nothing was written");

        come(&mut fleeting, "untold");
        fleeting.retain(|_| false);
        assert_eq!(fleeting.went(&path("untold")), Written::Any);

        come(&mut fleeting, "temporary");
        let moving = fleeting.moves(&path("temporary")).unwrap();
        assert!(moving.is_any());
        assert_eq!(fleeting.came(&path("kept"), moving.or_seen(inode(9, 1))), NOTHING);
        assert_eq!(fleeting.went(&path("kept")), Written::Linked(InodeId { dev: 1, ino: 9 }));
        let linked = moving.or_seen(inode(9, 2));
        assert_eq!(fleeting.came(&path("other"), linked), [Written::Here, Written::Linked(InodeId { dev: 1, ino: 9 })]);

        come(&mut fleeting, "replaced");
        assert_eq!(fleeting.came(&path("replaced"), Fresh::seen(inode(10, 1)))[0], Written::Any);
        fleeting.written(&path("replaced"));
        let replaced = fleeting.came(&path("replaced"), Fresh::seen(inode(11, 1)));
        assert_eq!(replaced, [Written::Linked(InodeId { dev: 1, ino: 10 }), Written::Here]);
    }

    #[test]
    fn a_look_that_saw_the_next_file_of_the_name_saw_none() {
        let mut fleeting = Fleeting::default();
        let come = |fleeting: &mut Fleeting, ino| fleeting.came(&path("x"), Fresh::seen(inode(ino, 1)))[0];
        assert_eq!(come(&mut fleeting, 7), Written::Here);
        fleeting.written(&path("x"));
        assert_eq!(fleeting.went(&path("x")), Written::Linked(InodeId { dev: 1, ino: 7 }));
        assert_eq!(come(&mut fleeting, 7), Written::Any);
        fleeting.written(&path("x"));
        assert_eq!(fleeting.went(&path("x")), Written::Linked(InodeId { dev: 1, ino: 7 }));
        assert_eq!(come(&mut fleeting, 8), Written::Here);
    }

    #[test]
    fn a_look_may_have_seen_any_of_the_later_files_of_the_name() {
        let known = |ino| Fresh::known(inode(ino, 1), inode(9, 1));
        let come = |fleeting: &mut Fleeting, fresh| fleeting.came(&path("x"), fresh)[0];
        let mut fleeting = Fleeting::default();
        come(&mut fleeting, Fresh::seen(inode(9, 1)));
        fleeting.written(&path("x"));
        assert_ne!(come(&mut fleeting, known(8)), Written::Any);
        assert_eq!(come(&mut fleeting, known(9)), Written::Any, "what was looked at first");
        assert_eq!(come(&mut fleeting, known(9)), Written::Here, "all is compared by then");

        // One that is known comes and goes without being taken for another.
        for _ in 0..3 {
            assert_eq!(come(&mut fleeting, known(7)), Written::Here);
            fleeting.written(&path("x"));
            assert!(fleeting.moves(&path("x")).is_some());
            assert_eq!(come(&mut fleeting, known(8)), Written::Here);
        }
    }

    #[test]
    fn many_names_that_were_seen_are_not_all_kept() {
        let mut fleeting = Fleeting::default();
        for number in 0..NAMES_CAP * 2 {
            let fresh = Fresh::seen(inode(number as u64, 1));
            assert_eq!(fleeting.came(&path(&number.to_string()), fresh), NOTHING);
        }
        assert!(fleeting.0.len() < NAMES_CAP);
        let mut come = |number: usize| fleeting.came(&path(&format!("unseen-{number}")), Fresh::seen(None))[0];
        assert!((0..NAMES_CAP).any(|number| come(number) == Written::Any), "then all are compared");
    }
}
