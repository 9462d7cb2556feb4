//! What may come on a data stream, and in which order: frames go in, [`Piece`]s come out.
//!
//! `START (OPERATION PAYLOAD*)* END` is a generation, `START (HELD PAYLOAD* HELD_END?)* END` contents sent ahead. What a piece means where it
//! stands is for the replica to judge, which knows what it lacks; here only a stream without its beginning or end is refused.

use crate::thought::generation::{FormatError, Header};
use crate::thought::wire::frame::{BodyError, body};
use crate::thought::wire::message::{HeldContent, StreamStart, data};

/// Why a stream is none.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// Nothing came.
    #[error("a data stream is empty")]
    Empty,
    /// It begins with something else.
    #[error("a data stream does not say what it is")]
    NoStart,
    /// It begins a generation, and that has no header.
    #[error("a data stream has a bad header")]
    Header(#[source] FormatError),
    /// A frame could not be read.
    #[error("a data stream has a malformed frame")]
    Body(#[from] BodyError),
    /// A frame of a kind that is not known here.
    #[error("a data stream has a frame of an unknown kind ({0})")]
    Kind(u8),
    /// More came after its end.
    #[error("a data stream goes on after its end")]
    AfterEnd,
    /// It ended before its end.
    #[error("a data stream ended without its end")]
    NoEnd,
}

/// A piece of a stream.
#[derive(Debug)]
pub enum Piece {
    /// A generation begins.
    Begin(Box<Header>),
    /// Contents begin.
    Contents,
    /// An operation.
    Operation(Vec<u8>),
    /// Payload of what came last.
    Payload(Vec<u8>),
    /// A content.
    Hold(HeldContent),
    /// The end of a content whose length was not told; true if it is whole.
    Held(bool),
    /// The end.
    End,
}

/// How far a stream has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Arrival {
    /// Nothing came.
    #[default]
    Before,
    /// It began.
    Within,
    /// It is whole.
    After,
}

impl Arrival {
    /// The next frame.
    pub fn frame(&mut self, kind: u8, payload: Vec<u8>) -> Result<Piece, ArrivalError> {
        match self {
            Self::Before if kind == data::START => {
                *self = Self::Within;
                Ok(match body(&payload)? {
                    StreamStart::Generation { header } => {
                        Piece::Begin(Box::new(Header::decode(&header).map_err(ArrivalError::Header)?))
                    }
                    StreamStart::Contents => Piece::Contents,
                })
            }
            Self::Before => Err(ArrivalError::NoStart),
            Self::Within => Ok(match kind {
                data::OPERATION => Piece::Operation(payload),
                data::PAYLOAD => Piece::Payload(payload),
                data::HELD => Piece::Hold(body(&payload)?),
                data::HELD_END => Piece::Held(payload == [1]),
                data::END => {
                    *self = Self::After;
                    Piece::End
                }
                kind => return Err(ArrivalError::Kind(kind)),
            }),
            Self::After => Err(ArrivalError::AfterEnd),
        }
    }

    /// Says that no more comes.
    pub fn finish(self) -> Result<(), ArrivalError> {
        match self {
            Self::Before => Err(ArrivalError::Empty),
            Self::Within => Err(ArrivalError::NoEnd),
            Self::After => Ok(()),
        }
    }
}
