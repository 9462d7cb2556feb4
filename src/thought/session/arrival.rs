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
    /// A frame of a kind that does not belong there.
    #[error("a data stream has a frame of kind {0}, which does not belong there")]
    Kind(u8),
    /// More came after its end.
    #[error("a data stream goes on after its end")]
    AfterEnd,
    /// It ended before its end.
    #[error("a data stream ended without its end")]
    NoEnd,
}

/// A piece of a stream. Pieces of a generation and of contents may come in turn: of each kind there is one stream at a time.
#[derive(Debug)]
pub enum Piece {
    /// Of a generation.
    Generation(GenerationPiece),
    /// Of contents sent ahead.
    Contents(ContentsPiece),
}

/// A piece of a stream with a generation.
#[derive(Debug)]
pub enum GenerationPiece {
    /// It begins.
    Begin(Box<Header>),
    /// Its next operation.
    Operation(Vec<u8>),
    /// Payload of the last operation.
    Payload(Vec<u8>),
    /// The end.
    End,
}

/// A piece of a stream with contents sent ahead.
#[derive(Debug)]
pub enum ContentsPiece {
    /// It begins.
    Begin,
    /// The next content.
    Hold(HeldContent),
    /// Payload of the last content.
    Payload(Vec<u8>),
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
    /// A generation began.
    Generation,
    /// Contents began.
    Contents,
    /// It is whole.
    After,
}

impl Arrival {
    /// The next frame.
    pub fn frame(&mut self, kind: u8, payload: Vec<u8>) -> Result<Piece, ArrivalError> {
        match self {
            Self::Before if kind == data::START => Ok(match body(&payload)? {
                StreamStart::Generation { header } => {
                    *self = Self::Generation;
                    let header = Header::decode(&header).map_err(ArrivalError::Header)?;
                    Piece::Generation(GenerationPiece::Begin(Box::new(header)))
                }
                StreamStart::Contents => {
                    *self = Self::Contents;
                    Piece::Contents(ContentsPiece::Begin)
                }
            }),
            Self::Before => Err(ArrivalError::NoStart),
            Self::Generation => Ok(Piece::Generation(match kind {
                data::OPERATION => GenerationPiece::Operation(payload),
                data::PAYLOAD => GenerationPiece::Payload(payload),
                data::END => {
                    *self = Self::After;
                    GenerationPiece::End
                }
                kind => return Err(ArrivalError::Kind(kind)),
            })),
            Self::Contents => Ok(Piece::Contents(match kind {
                data::HELD => ContentsPiece::Hold(body(&payload)?),
                data::PAYLOAD => ContentsPiece::Payload(payload),
                data::HELD_END => ContentsPiece::Held(payload == [1]),
                data::END => {
                    *self = Self::After;
                    ContentsPiece::End
                }
                kind => return Err(ArrivalError::Kind(kind)),
            })),
            Self::After => Err(ArrivalError::AfterEnd),
        }
    }

    /// Says that no more comes.
    pub fn finish(self) -> Result<(), ArrivalError> {
        match self {
            Self::Before => Err(ArrivalError::Empty),
            Self::Generation | Self::Contents => Err(ArrivalError::NoEnd),
            Self::After => Ok(()),
        }
    }
}
