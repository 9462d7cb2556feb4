//! A standby: its disk, its journal, and the one thread that works on them. What its tasks do around [`Follower`], [`Arrival`] and
//! [`Receiver`] is done here in the same order.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use super::content::Content;
use crate::daemon::memory::Memory;
use crate::thought::generation::{Header, OperationsDigest};
use crate::thought::session::arrival::{Arrival, ContentsPiece, GenerationPiece, Piece};
use crate::thought::session::follower::Follower;
use crate::thought::session::patience::Patience;
use crate::thought::session::receiver::Receiver;
use crate::thought::wire::frame::FrameDecoder;
use crate::thought::wire::message::{Acked, DATA_CAP, Have, HeldAll, Hello, Lack, Message, Rejected, Revealed};
use crate::words::entry::Digest;
use crate::words::position::{ChainDigest, NodeName, Position};

/// A generation in the journal.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) header: Header,
    operations: Vec<Vec<u8>>,
}

/// What survives a loss of power.
#[derive(Clone, Default)]
pub(super) struct Disk {
    /// What is visible.
    pub(super) replica: Content,
    /// The history that it is a state of, whatever the standby believes.
    pub(super) revealed: ChainDigest,
    /// Acked and not revealed.
    pub(super) journal: VecDeque<Record>,
    /// Where it stands with all of its journal.
    pub(super) standing: (Position, ChainDigest),
    /// All that it ever journalled.
    pub(super) history: HashSet<ChainDigest>,
}

impl Disk {
    /// The content with all of the journal.
    pub(super) fn content(&self) -> Content {
        let mut content = self.replica.clone();
        for operation in self.journal.iter().flat_map(|record| &record.operations) {
            content.apply(operation);
        }
        content
    }

    /// Makes a generation durable.
    pub(super) fn sync(&mut self, record: Record) {
        self.standing = (record.header.position, record.header.chain());
        self.history.insert(self.standing.1);
        self.journal.push_back(record);
    }

    /// Shows the oldest that is not shown; where that is.
    pub(super) fn reveal(&mut self) -> Option<Position> {
        let record = self.journal.pop_front()?;
        record.operations.iter().for_each(|operation| self.replica.apply(operation));
        self.revealed = record.header.chain();
        Some(record.header.position)
    }
}

/// What the one thread is to do.
pub(super) enum Job {
    Piece(Piece),
    List,
    Have(Have),
}

/// A generation that is arriving.
pub(super) struct Arriving {
    record: Record,
    digest: OperationsDigest,
}

/// One node that has a replica.
pub(super) struct Standby {
    pub(super) name: NodeName,
    pub(super) is_up: bool,
    /// Rises with every start.
    pub(super) boot: u64,
    pub(super) instance: [u8; 16],
    pub(super) memory: Memory,
    pub(super) disk: Disk,
    /// The newest generation that it said is acked; until its disk is lost.
    pub(super) told: Option<ChainDigest>,
    /// How long it needs for a sync.
    pub(super) pace: Duration,
    /// When each primary is dialed.
    pub(super) places: Vec<Patience>,
    pub(super) link: Option<Linked>,
    /// What is taken: as the last link's primary greeted.
    pub(super) receiver: Option<Receiver>,
    pub(super) jobs: VecDeque<Job>,
    pub(super) arriving: Option<Arriving>,
    /// How many contents came on the present stream of them.
    pub(super) contents: u64,
    /// Written to the journal and not synced.
    pub(super) written: Option<Record>,
    pub(super) held: BTreeSet<Digest>,
    /// The thread is about to do something.
    pub(super) is_busy: bool,
}

/// Its link, or what is to become one.
pub(super) struct Linked {
    pub(super) number: usize,
    pub(super) since: Duration,
    pub(super) ours: Hello,
    pub(super) decoder: FrameDecoder,
    /// Since the primary greeted.
    pub(super) follower: Option<Follower>,
    pub(super) streams: Vec<Reading>,
}

/// A data stream that is being read, or waits for its turn.
pub(super) struct Reading {
    pub(super) decoder: FrameDecoder,
    /// What arrived and is not read.
    pub(super) pieces: VecDeque<Vec<u8>>,
    pub(super) arrival: Arrival,
    /// How it begins, until it is read on.
    pub(super) first: Option<Piece>,
}

impl Reading {
    pub(super) fn new() -> Self {
        let arrival = Arrival::default();
        Self { decoder: FrameDecoder::new(DATA_CAP), pieces: VecDeque::new(), arrival, first: None }
    }

    /// The next piece, if it is here.
    pub(super) fn next(&mut self) -> Option<Piece> {
        loop {
            if let Some((kind, payload)) = self.decoder.pull().unwrap() {
                return Some(self.arrival.frame(kind, payload).unwrap());
            }
            let mut bytes = self.pieces.pop_front()?;
            let taken = self.decoder.feed(&bytes).unwrap();
            if taken < bytes.len() {
                self.pieces.push_front(bytes.split_off(taken));
            }
        }
    }
}

/// What came of a job.
pub(super) enum Done {
    Nothing,
    Tell(Box<Message>),
    /// A generation is whole: it is to be made durable.
    Written,
}

impl Standby {
    /// The process is gone, and with it what was not synced, or all but `kept`.
    pub(super) fn crash(&mut self, is_kept: bool) {
        if let Some(written) = self.written.take()
            && is_kept
        {
            self.disk.sync(written);
        }
        self.is_up = false;
        self.link = None;
        self.receiver = None;
        self.jobs.clear();
        self.arriving = None;
        self.held.clear();
        self.is_busy = false;
    }

    /// Does one job.
    pub(super) fn job(&mut self, job: Job) -> Done {
        match job {
            Job::List => Done::Tell(Box::new(self.disk.content().listing().into())),
            Job::Have(have) => {
                let content = self.disk.content();
                let mut bits = vec![0; have.contents.len().div_ceil(8)];
                for (index, digest) in have.contents.iter().enumerate() {
                    let has = self.held.contains(digest) || content.has_value(*digest);
                    bits[index / 8] |= u8::from(!has) << (index % 8);
                }
                Done::Tell(Box::new(Lack { bits, ..Lack::default() }.into()))
            }
            Job::Piece(Piece::Contents(piece)) => self.contents_piece(piece),
            Job::Piece(Piece::Generation(piece)) => self.generation_piece(piece),
        }
    }

    fn contents_piece(&mut self, piece: ContentsPiece) -> Done {
        match piece {
            ContentsPiece::Begin => self.contents = 0,
            ContentsPiece::Hold(content) => {
                self.contents += 1;
                self.held.insert(content.digest);
            }
            ContentsPiece::Payload(_) | ContentsPiece::Held(_) => {}
            ContentsPiece::End => return Done::Tell(Box::new(HeldAll { count: self.contents }.into())),
        }
        Done::Nothing
    }

    fn generation_piece(&mut self, piece: GenerationPiece) -> Done {
        match piece {
            GenerationPiece::Begin(header) => {
                self.arriving = None;
                let Some(receiver) = &self.receiver else { return Done::Nothing };
                if let Err(error) = receiver.check(&header) {
                    let rejected = Rejected { position: header.position, text: error.to_string() };
                    return Done::Tell(Box::new(rejected.into()));
                }
                let record = Record { header: *header, operations: Vec::new() };
                self.arriving = Some(Arriving { record, digest: OperationsDigest::default() });
            }
            GenerationPiece::Operation(operation) => {
                if let Some(Arriving { record, digest }) = &mut self.arriving {
                    digest.update(&operation);
                    record.operations.push(operation);
                }
            }
            GenerationPiece::Payload(_) => {}
            GenerationPiece::End => {
                // Of one that was refused nothing is left.
                let Some(Arriving { record, digest }) = self.arriving.take() else { return Done::Nothing };
                let header = &record.header;
                let count = record.operations.len() as u64;
                if (count, digest.finish()) != (header.operations, header.operations_digest) {
                    let text = "the operations are not those it announces".to_owned();
                    return Done::Tell(Box::new(Rejected { position: header.position, text }.into()));
                }
                self.written = Some(record);
                return Done::Written;
            }
        }
        Done::Nothing
    }

    /// What was written is synced, and so acked.
    pub(super) fn sync(&mut self) -> Option<Message> {
        let record = self.written.take()?;
        let header = record.header.clone();
        self.disk.sync(record);
        if let Some(receiver) = &mut self.receiver {
            receiver.accepted(&header);
        }
        Some(Acked { position: header.position, chain: header.chain() }.into())
    }

    pub(super) fn reveal(&mut self) -> Option<Message> {
        self.disk.reveal().map(|position| Revealed { position }.into())
    }
}
