//! Where things lie in `<home>/.hotspare/`.

use crate::words::entry::Digest;
use crate::words::path::{Name, RelPath};
use crate::words::position::Position;

/// What the standby keeps in the reserved directory of its home. All of it is on the home's own file system, so that moving is renaming.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Area {
    /// Content on its way in.
    Stage,
    /// What a reveal has taken away, or is moving.
    Reveal,
    /// What was there and belonged to nobody.
    Bundles,
    /// The journal.
    Journal,
}

impl Area {
    fn word(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Reveal => "reveal",
            Self::Bundles => "bundles",
            Self::Journal => "journal",
        }
    }
}

/// `.hotspare`.
pub(super) fn reserved() -> RelPath {
    join(&RelPath::root(), ".hotspare")
}

/// `.hotspare/<area>`.
pub(super) fn area(area: Area) -> RelPath {
    join(&reserved(), area.word())
}

/// `.hotspare/<area>/<position>`.
pub(super) fn of(kind: Area, position: Position) -> RelPath {
    join(&area(kind), &position.to_string())
}

/// `.hotspare/<area>/<position>/<operation>`.
pub(super) fn slot(kind: Area, position: Position, operation: u32) -> RelPath {
    join(&of(kind, position), &operation.to_string())
}

/// The same within its `.hotspare/<area>/<position>`.
pub(super) fn number(operation: u32) -> RelPath {
    join(&RelPath::root(), &operation.to_string())
}

/// Where the old blocks of an edit are kept.
pub(super) fn old_blocks(position: Position, operation: u32) -> RelPath {
    join(&of(Area::Stage, position), &format!("{operation}.old"))
}

/// The sign that the first phase of a reveal is over.
pub(super) fn taken_mark(position: Position) -> RelPath {
    in_reveal(position, "taken")
}

/// The sign that what a generation replaces is to be kept.
pub(super) fn keep_mark(position: Position) -> RelPath {
    join(&of(Area::Stage, position), "keep")
}

/// What holds space for the appends of a generation until it is revealed.
pub(super) fn room(position: Position) -> RelPath {
    join(&of(Area::Stage, position), "room")
}

/// `.hotspare/reveal/<position>/<name>`.
pub(super) fn in_reveal(position: Position, name: &str) -> RelPath {
    join(&of(Area::Reveal, position), name)
}

/// `.hotspare/stage/held`: contents that came ahead of the generation that needs them.
pub(super) fn held() -> RelPath {
    join(&area(Area::Stage), "held")
}

/// One held content.
pub(super) fn held_content(digest: Digest) -> RelPath {
    join(&held(), &digest.to_string())
}

/// The same within `held`.
pub(super) fn digest(content: Digest) -> RelPath {
    join(&RelPath::root(), &content.to_string())
}

/// A copy in the making within `held`: no content by its name.
pub(super) fn copy(number: u64) -> RelPath {
    join(&RelPath::root(), &format!("copy-{number}"))
}

/// The name of a held content as its digest.
pub(super) fn content_of(name: &Name) -> Option<Digest> {
    blake3::Hash::from_hex(name.as_bytes()).ok().map(Digest::from)
}

/// Where what a first generation replaced is kept; `number` tells apart two of one position.
pub(super) fn replaced(position: Position, number: u32) -> RelPath {
    let more = if number == 0 { String::new() } else { format!("-{number}") };
    join(&area(Area::Bundles), &format!("replaced-{position}{more}"))
}

/// Where what lay in the way of an operation is kept, and beside it its path; `number` tells apart two of one operation.
pub(super) fn in_the_way(position: Position, operation: u32, number: u32) -> [RelPath; 2] {
    let more = if number == 0 { String::new() } else { format!("-{number}") };
    let bundle = of(Area::Bundles, position);
    [join(&bundle, &format!("{operation}{more}")), join(&bundle, &format!("{operation}{more}.path"))]
}

/// Where a journal goes that is of no more use.
pub(super) fn old_journal() -> RelPath {
    join(&reserved(), "journal-old")
}

/// Where a file of `.hotspare` itself is made before it gets its name.
pub(super) fn temporary() -> RelPath {
    join(&reserved(), "new")
}

/// The name of an area's child as a position.
pub(super) fn position_of(name: &Name) -> Option<Position> {
    let text = std::str::from_utf8(name.as_bytes()).ok()?;
    let (epoch, generation) = text.split_once('.')?;
    Some(Position { epoch: epoch.parse().ok()?, generation: generation.parse().ok()? })
}

#[expect(clippy::expect_used, reason = "the words and numbers used here are names")]
fn join(directory: &RelPath, name: &str) -> RelPath {
    directory.join(&Name::parse(name.as_bytes()).expect("a word is a name"))
}
