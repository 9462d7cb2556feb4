//! Links as QUIC makes them: streams that lose, double and reorder nothing within themselves, and promise nothing between each other.

use std::collections::VecDeque;
use std::time::Duration;

use crate::thought::dice::Dice;

/// Longer than this a black hole is not survived: QUIC's idle time.
const IDLE: Duration = Duration::from_secs(8);

/// An end of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Primary,
    Standby,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Primary => Self::Standby,
            Self::Standby => Self::Primary,
        }
    }
}

/// One stream of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stream {
    /// The control stream, towards that end.
    Control(Side),
    /// A data stream, by its number.
    Data(usize),
}

/// Bytes under way, in pieces that say when they arrive.
#[derive(Default)]
pub(super) struct Pipe {
    pieces: VecDeque<(Duration, Vec<u8>)>,
    last: Duration,
}

impl Pipe {
    /// Sends; when each piece arrives.
    fn send(&mut self, bytes: &[u8], now: Duration, dice: &mut Dice) -> Vec<Duration> {
        let mut rest = bytes;
        let mut dues = Vec::new();
        while !rest.is_empty() {
            let length = if dice.one_in(4) { 1 + dice.index(rest.len()) } else { rest.len() };
            let (piece, behind) = rest.split_at(length);
            // A packet that is lost comes later, and what is behind it in the stream waits.
            let latency = 1 + dice.index(20) + if dice.one_in(20) { 50 + dice.index(800) } else { 0 };
            self.last = self.last.max(now + Duration::from_millis(latency as u64));
            self.pieces.push_back((self.last, piece.to_vec()));
            dues.push(self.last);
            rest = behind;
        }
        dues
    }
}

/// A link between two nodes.
pub(super) struct Link {
    pub(super) primary: usize,
    pub(super) standby: usize,
    /// Which end still holds it.
    pub(super) is_open: [bool; 2],
    control: [Pipe; 2],
    pub(super) data: Vec<Pipe>,
    /// The frames of a data stream that the next is to overtake.
    pub(super) held_back: Option<Vec<(u8, Vec<u8>)>>,
    /// Nothing arrives at that end from one moment to another.
    black_hole: [Option<(Duration, Duration)>; 2],
}

/// What became of a piece that was due.
pub(super) enum Arrived {
    Bytes(Vec<u8>),
    /// It will come then.
    Later(Duration),
    Lost,
}

impl Link {
    pub(super) fn new(primary: usize, standby: usize) -> Self {
        Self {
            primary,
            standby,
            is_open: [true; 2],
            control: Default::default(),
            data: Vec::new(),
            held_back: None,
            black_hole: [None; 2],
        }
    }

    fn pipe(&mut self, stream: Stream) -> &mut Pipe {
        match stream {
            Stream::Control(side) => &mut self.control[side as usize],
            Stream::Data(number) => &mut self.data[number],
        }
    }

    pub(super) fn send(&mut self, stream: Stream, bytes: &[u8], now: Duration, dice: &mut Dice) -> Vec<Duration> {
        self.pipe(stream).send(bytes, now, dice)
    }

    /// From `now` on nothing arrives at `side`, for so long.
    pub(super) fn go_dark(&mut self, side: Side, now: Duration, long: Duration) {
        let hole = &mut self.black_hole[side as usize];
        let begin = hole.map_or(now, |(begin, _)| begin);
        *hole = Some((begin, hole.map_or(Duration::ZERO, |(_, end)| end).max(now + long)));
    }

    /// True if nothing can arrive at `side` any more; a short darkness is over some time.
    pub(super) fn is_dead(&self, side: Side) -> bool {
        self.black_hole[side as usize].is_some_and(|(begin, end)| end - begin >= IDLE)
    }

    pub(super) fn arrive(&mut self, stream: Stream, now: Duration) -> Arrived {
        let side = match stream {
            Stream::Control(side) => side,
            Stream::Data(_) => Side::Standby,
        };
        if self.is_dead(side) {
            return Arrived::Lost;
        }
        match self.black_hole[side as usize] {
            Some((begin, end)) if (begin..end).contains(&now) => Arrived::Later(end + Duration::from_millis(5)),
            _ => match self.pipe(stream).pieces.pop_front() {
                Some((_, bytes)) => Arrived::Bytes(bytes),
                None => Arrived::Lost,
            },
        }
    }
}
