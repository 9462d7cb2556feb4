//! A bench: a real home, everything that watches and captures it, a tree, and a model of the standby that takes the payloads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::capture::{Capturer, Cut, Larges, Moment, RoundOptions, Wanted, cut, link_id};
use crate::fs::{Root, XattrPolicy};
use crate::spool::{Spool, SpoolReader};
use crate::thought::delta::ReadAt as _;
use crate::thought::delta::pack::Unpacker;
use crate::thought::delta::patch::Patcher;
use crate::thought::dice::Dice;
use crate::thought::filter::{Filter, Preset};
use crate::thought::generation::{Action, Content, Operation, Quality};
use crate::thought::plan::{Captures, Step, learn};
use crate::thought::store::MemoryStore;
use crate::thought::tree::{ApplyError, Arrived, Row, Tree, TreeError, Witness};
use crate::walk::{DIRTY_CAP, TELLING, Walker};
use crate::watch::{Backend, Options, Watcher};
use crate::words::entry::{Body, Digest, Entry, InodeId, Proof, Timestamp, Xattrs};
use crate::words::path::RelPath;

pub(crate) const BACKENDS: [Backend; 2] = [Backend::Notify, Backend::Inotify];

/// One path, as it is on disk or as the tree has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    what: String,
    mode: u16,
    mtime: Timestamp,
    inode: InodeId,
    link: Option<u64>,
}

/// The bytes a standby would have, by digest; every payload is unpacked and checked.
#[derive(Default)]
pub(crate) struct Standby {
    pub(crate) contents: BTreeMap<Digest, Vec<u8>>,
}

pub(crate) struct Bench {
    directory: TempDir,
    pub(crate) home: PathBuf,
    pub(crate) walker: Walker,
    pub(crate) tree: Tree<MemoryStore>,
    pub(crate) rounds: RoundOptions,
    /// How large files are sent ahead, if they are.
    pub(crate) larges: Option<Arc<Larges>>,
    pub(crate) standby: Standby,
    /// How many bytes the last cut read.
    pub(crate) read_bytes: u64,
}

pub(crate) fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

pub(crate) fn now() -> Timestamp {
    let raw = clock_gettime(ClockId::Realtime);
    Timestamp { seconds: raw.tv_sec, nanoseconds: u32::try_from(raw.tv_nsec).unwrap() }
}

pub(super) fn moment() -> Moment {
    let monotonic = || {
        let raw = clock_gettime(ClockId::Monotonic);
        Duration::new(raw.tv_sec.unsigned_abs(), u32::try_from(raw.tv_nsec).unwrap())
    };
    let before = monotonic();
    let realtime = now();
    Moment { before, realtime, after: monotonic() }
}

impl Bench {
    pub(crate) fn new(backend: Backend) -> Self {
        Self::with(Options { backend, ..Options::default() }, &[])
    }

    pub(crate) fn with(options: Options, excluded: &[&str]) -> Self {
        Self::with_room(options, excluded, DIRTY_CAP)
    }

    /// A bench whose walker gathers `dirty_cap` dirty paths.
    pub(crate) fn with_room(options: Options, excluded: &[&str], dirty_cap: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        fs::create_dir(&home).unwrap();
        let watcher = Watcher::open(&home, options).unwrap();
        let root = Root::open(&home).unwrap();
        let stat = root.stat(&RelPath::root()).unwrap().unwrap();
        let row = Row::new(stat.entry(Body::Directory, Xattrs::default(), None), stat.inode);
        let tree = Tree::open(MemoryStore::default(), row).unwrap();
        let excluded: Vec<String> = excluded.iter().map(ToString::to_string).collect();
        let filter = Filter::new(Preset::None, &excluded, &[]).unwrap();
        let rounds = RoundOptions::default();
        let walker = Walker::new(root, watcher, filter, dirty_cap);
        Self { directory, home, walker, tree, rounds, larges: None, standby: Standby::default(), read_bytes: 0 }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.home.join(path)
    }

    /// A directory beside the home, on the same file system.
    pub(crate) fn outside(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn make(&self, path: &str, content: impl AsRef<[u8]>) {
        let at = self.at(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, content).unwrap();
    }

    /// A cut, without applying it.
    pub(crate) fn cut_by(&mut self, whole: &Wanted, clock: &dyn Fn() -> Moment) -> (Cut, Capturer) {
        let spool = Spool::create(self.directory.path()).unwrap();
        let mut capturer = Capturer::new(spool, [7; 32], XattrPolicy::default(), true);
        if let Some(larges) = &self.larges {
            capturer = capturer.sending_ahead(larges);
        }
        let cut = cut(&mut self.walker, &self.tree, &mut capturer, whole, self.rounds, clock).unwrap();
        (cut, capturer)
    }

    /// A cut, applied to the tree.
    pub(crate) fn cut(&mut self) -> Cut {
        self.cut_whole(&Wanted::new())
    }

    pub(crate) fn cut_whole(&mut self, whole: &Wanted) -> Cut {
        let (cut, capturer) = self.cut_by(whole, &moment);
        self.take(&cut, capturer);
        cut
    }

    pub(crate) fn take(&mut self, cut: &Cut, capturer: Capturer) {
        self.read_bytes = capturer.read_bytes();
        take(&mut self.tree, &mut self.standby, cut, capturer);
    }

    /// Cuts until nothing is left to be done.
    pub(crate) fn settle(&mut self) {
        let mut last = String::new();
        for _ in 0..200 {
            let cut = self.cut();
            if cut.quality == Quality::Consistent && self.walker.dirty().is_empty() && self.walker.is_settled() {
                return self.hash_probed();
            }
            let dirty: Vec<_> = self.walker.dirty().paths().collect();
            let Cut { quality, deferred, grown, captures, .. } = &cut;
            last = format!("{quality}, dirty {dirty:?}, deferred {deferred:?}, grown {grown:?}, {captures:#?}");
            // Some things must be so for a while ([`TELLING`]); as many cuts can be faster than that.
            std::thread::sleep(TELLING / 50);
        }
        panic!("the home does not settle: {last}");
    }

    /// Captures whole what is only probed: that a file was changed in place before it was appended to, samples may not tell.
    pub(crate) fn hash_probed(&mut self) {
        let is_probed = |row: &Row| matches!(row.entry.body, Body::File { proof: Proof::Probed, .. });
        let probed: Wanted = self.rows().into_iter().filter(|(_, row)| is_probed(row)).map(|(path, _)| path).collect();
        if !probed.is_empty() {
            self.cut_whole(&probed);
        }
    }

    pub(crate) fn rows(&self) -> BTreeMap<RelPath, Row> {
        rows(&self.tree)
    }

    pub(crate) fn row(&self, at: &str) -> Row {
        self.tree.row(&path(at)).unwrap().unwrap_or_else(|| panic!("{at} is not in the tree"))
    }

    pub(crate) fn has(&self, at: &str) -> bool {
        self.tree.row(&path(at)).unwrap().is_some()
    }

    /// The bytes that the standby has at `at`.
    pub(crate) fn content(&self, at: &str) -> &[u8] {
        self.standby.bytes(&self.row(at).entry)
    }

    /// What differs between the tree and the disk.
    pub(crate) fn differences(&self) -> Vec<String> {
        let mut disk = BTreeMap::new();
        look(&self.home, &self.home, &mut disk);
        let tree: BTreeMap<RelPath, Line> = self.rows().into_iter().map(|(path, row)| (path, line(&row))).collect();
        let paths: BTreeSet<&RelPath> = disk.keys().chain(tree.keys()).collect();
        let differing = paths.into_iter().filter(|path| disk.get(*path) != tree.get(*path));
        differing.map(|path| format!("{path}\n  disk {:?}\n  tree {:?}", disk.get(path), tree.get(path))).collect()
    }

    #[track_caller]
    pub(crate) fn assert_same(&self) {
        let differences = self.differences();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

/// Has a tree and a standby take a cut.
pub(super) fn take(tree: &mut Tree<MemoryStore>, standby: &mut Standby, cut: &Cut, capturer: Capturer) {
    let (spool, signatures) = capturer.finish();
    let operations: Vec<Operation> = cut.steps.iter().map(|step| step.operation.clone()).collect();
    let mut receiver =
        Receiver { captures: &cut.captures, steps: &cut.steps, spool: spool.reader(), standby: &mut *standby };
    tree.apply(&operations, &mut receiver).unwrap_or_else(|error| {
        panic!("{error}: {:?}\n{operations:#?}", std::error::Error::source(&error));
    });
    learn(tree, &cut.captures).unwrap();
    for signed in signatures.iter() {
        let (digest, signature) = signed.unwrap();
        tree.keep_signature(digest, signature).unwrap();
    }
    let rows = rows(tree);
    for (path, row) in rows.iter().filter(|(_, row)| row.entry.size() > 0) {
        let is_held = row.entry.content().is_none_or(|digest| standby.contents.contains_key(&digest));
        assert!(is_held, "the standby lacks the content of {path}\n{:#?}\n{:#?}", cut.steps, cut.captures);
    }
    let kept: BTreeSet<Digest> = rows.values().filter_map(|row| row.entry.content()).collect();
    standby.contents.retain(|digest, _| kept.contains(digest));
}

/// All that is in a tree.
pub(super) fn rows(tree: &Tree<MemoryStore>) -> BTreeMap<RelPath, Row> {
    let mut all = BTreeMap::new();
    let mut below = vec![(RelPath::root(), tree.root().clone())];
    while let Some((path, row)) = below.pop() {
        if let Some(directory) = &row.directory {
            let visit = |name, row| {
                below.push((path.join(&name), row));
                Ok::<_, TreeError>(())
            };
            tree.for_children(directory.id, visit).unwrap();
        }
        all.insert(path, row);
    }
    all
}

fn line(row: &Row) -> Line {
    let what = match &row.entry.body {
        Body::File { size, digest, .. } => format!("file {size} {digest}"),
        Body::Directory => "directory".into(),
        Body::Symlink { target } => format!("link to {target:?}"),
    };
    let Entry { mode, mtime, link, .. } = row.entry;
    Line { what, mode, mtime, inode: row.inode.id, link: link.map(|link| link.0) }
}

fn look(home: &Path, at: &Path, found: &mut BTreeMap<RelPath, Line>) {
    let metadata = at.symlink_metadata().unwrap();
    let relative = RelPath::parse(at.strip_prefix(home).unwrap().as_os_str().as_bytes()).unwrap();
    if relative.is_reserved() {
        return;
    }
    let what = if metadata.is_dir() {
        fs::read_dir(at).unwrap().for_each(|entry| look(home, &entry.unwrap().path(), found));
        "directory".into()
    } else if metadata.is_symlink() {
        format!("link to {:?}", fs::read_link(at).unwrap().as_os_str().as_bytes())
    } else if metadata.is_file() {
        let content = fs::read(at).unwrap();
        format!("file {} {}", content.len(), Digest::of(&content))
    } else {
        return;
    };
    let inode = InodeId { dev: metadata.dev(), ino: metadata.ino() };
    let link = (!metadata.is_dir() && metadata.nlink() > 1).then(|| link_id(inode).0);
    let mtime = Timestamp { seconds: metadata.mtime(), nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap() };
    let mode = u16::try_from(metadata.mode() & 0o7777).unwrap();
    found.insert(relative, Line { what, mode, mtime, inode, link });
}

impl Standby {
    pub(super) fn bytes(&self, entry: &Entry) -> &[u8] {
        match entry.content() {
            Some(digest) if entry.size() > 0 => self.contents.get(&digest).expect("the standby holds the content"),
            _ => &[],
        }
    }

    #[track_caller]
    fn keep(&mut self, entry: &Entry, bytes: Vec<u8>) {
        assert_eq!(bytes.len() as u64, entry.size(), "{entry:?}");
        let is_probed = matches!(entry.body, Body::File { proof: Proof::Probed, .. });
        // A change between the samples is found only when the file is hashed whole; until then the digest is believed on both sides.
        assert!(is_probed || Some(Digest::of(&bytes)) == entry.content(), "{entry:?}");
        self.contents.insert(entry.content().unwrap(), bytes);
    }
}

/// Applies payloads as a standby would, and tells the tree what was captured.
struct Receiver<'a> {
    captures: &'a Captures,
    steps: &'a [Step],
    spool: SpoolReader,
    standby: &'a mut Standby,
}

impl Receiver<'_> {
    fn payload(&self, operation: &Operation) -> Vec<u8> {
        let spooled = self.steps[operation.id as usize].spooled.expect("a payload");
        assert_eq!(operation.payload, Some(spooled.payload));
        let mut packed = vec![0; usize::try_from(spooled.payload.length).unwrap()];
        assert_eq!(self.spool.read_at(&mut packed, spooled.offset).unwrap(), packed.len());
        let mut bytes = Vec::new();
        let mut unpacker = Unpacker::new(spooled.payload.unpacked);
        let mut keep = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        unpacker.feed(&packed, &mut keep).unwrap();
        unpacker.finish().unwrap();
        bytes
    }

    fn receive(&mut self, operation: &Operation, before: Option<&Row>) {
        match &operation.action {
            Action::Create { entry, content, .. } => match content {
                Content::None => assert!(entry.size() == 0, "{operation:?}"),
                Content::Held => {
                    assert!(self.standby.contents.contains_key(&entry.content().unwrap()), "{operation:?}");
                }
                Content::Whole => self.standby.keep(entry, self.payload(operation)),
                Content::Delta { base, base_length } => {
                    let base = self.standby.contents.get(base).unwrap_or_else(|| panic!("{operation:?}"));
                    assert_eq!(base.len() as u64, *base_length);
                    let mut bytes = Vec::new();
                    let mut patcher = Patcher::new(*base_length, entry.size());
                    let mut keep = |piece: &[u8]| {
                        bytes.extend_from_slice(piece);
                        Ok(())
                    };
                    patcher.feed(&self.payload(operation), base, &mut keep).unwrap();
                    patcher.finish().unwrap();
                    self.standby.keep(entry, bytes);
                }
            },
            Action::Edit { entry, old_length, spans, .. } => {
                let mut bytes = self.standby.bytes(&before.unwrap().entry).to_vec();
                assert_eq!(bytes.len() as u64, *old_length);
                bytes.resize(usize::try_from(entry.size()).unwrap(), 0);
                let payload = self.payload(operation);
                let mut rest = payload.as_slice();
                for span in spans {
                    let (piece, after) = rest.split_at(usize::try_from(span.len).unwrap());
                    let offset = usize::try_from(span.offset).unwrap();
                    bytes[offset..offset + piece.len()].copy_from_slice(piece);
                    rest = after;
                }
                assert!(rest.is_empty());
                self.standby.keep(entry, bytes);
            }
            _ => {}
        }
    }
}

impl Witness for Receiver<'_> {
    fn step(&mut self, operation: &Operation, before: Option<&Row>) -> Result<Option<Arrived>, ApplyError> {
        self.receive(operation, before);
        let found = self.captures.get(operation.action.path()).and_then(Option::as_ref);
        Ok(found.map(|present| Arrived { inode: present.inode, memory: present.memory.clone() }))
    }
}

/// Bytes that no packer makes smaller, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    Dice::new(seed).noise(length)
}
