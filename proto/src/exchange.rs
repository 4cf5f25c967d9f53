//! The exchange's frames, their codec, and the service `boyle.v1.Exchange` with its one method `Run`.
//!
//! One frame is one gRPC message:
//! `magic u32 LE | header length u32 LE | header (prost) | rows, raw bytes`.
//! A received frame's rows are a slice of the buffer they arrived in; nothing is copied.

use crate::limits::{EXCHANGE_FRAME_BYTES_MAX, EXCHANGE_HEADER_BYTES_MAX};
use crate::v1::ExchangeHeader;
use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

pub use generated::{exchange_client, exchange_server};

#[allow(
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic,
    rust_2018_idioms,
    unused_qualifications
)]
mod generated {
    include!(concat!(env!("BOYLE_GENERATED"), "/boyle.v1.Exchange.rs"));
}

/// First four bytes of every frame: "BXF1" as little-endian u32. A change of the layout changes the digit.
pub const MAGIC: u32 = u32::from_le_bytes(*b"BXF1");

/// Magic and header length.
const PREFIX_BYTES: usize = 8;

/// tonic grows its buffers by this much; a decode step's dispatch of one row (14 KiB) fits at once.
const BUFFER_BYTES: usize = 32 << 10;

/// tonic sends what it has when this many bytes wait, so that a small answer never waits behind a large one.
const YIELD_BYTES: usize = 64 << 10;

/// A header and the rows that belong to it; the row format is agreed by the streams' hellos.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExchangeFrame {
    pub header: ExchangeHeader,
    pub rows: Bytes,
}

/// Bytes that are no frame, or a frame that is too large to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame has {length} bytes and needs {needed}: it is cut short")]
    Truncated { length: usize, needed: usize },
    #[error(
        "frame starts with {found:#010x} and not {MAGIC:#010x}; the peer speaks another version"
    )]
    Magic { found: u32 },
    #[error("frame header has {length} bytes, more than {EXCHANGE_HEADER_BYTES_MAX}")]
    HeaderTooLarge { length: usize },
    #[error("frame has {length} bytes, more than {EXCHANGE_FRAME_BYTES_MAX}")]
    FrameTooLarge { length: usize },
    #[error("frame header is malformed")]
    Header { source: prost::DecodeError },
}

impl ExchangeFrame {
    /// Bytes of the whole frame.
    pub fn encoded_len(&self) -> usize {
        PREFIX_BYTES + self.header.encoded_len() + self.rows.len()
    }

    /// Writes the frame; nothing is written when it is refused.
    ///
    /// # Errors
    /// [`FrameError::HeaderTooLarge`] or [`FrameError::FrameTooLarge`].
    pub fn encode(&self, target: &mut impl BufMut) -> Result<(), FrameError> {
        let header_length = self.header.encoded_len();
        if header_length > EXCHANGE_HEADER_BYTES_MAX {
            return Err(FrameError::HeaderTooLarge { length: header_length });
        }
        let length = self.encoded_len();
        if length > EXCHANGE_FRAME_BYTES_MAX || length > target.remaining_mut() {
            return Err(FrameError::FrameTooLarge { length });
        }
        target.put_u32_le(MAGIC);
        // Bounded by EXCHANGE_HEADER_BYTES_MAX, so it fits.
        target.put_u32_le(header_length as u32);
        self.header.encode_raw(target);
        target.put_slice(&self.rows);
        Ok(())
    }

    /// Reads one frame, which takes all of `source`.
    ///
    /// # Errors
    /// [`FrameError`]; how much of `source` is consumed then is not defined.
    pub fn decode(source: &mut impl Buf) -> Result<Self, FrameError> {
        let length = source.remaining();
        if length > EXCHANGE_FRAME_BYTES_MAX {
            return Err(FrameError::FrameTooLarge { length });
        }
        if length < PREFIX_BYTES {
            return Err(FrameError::Truncated { length, needed: PREFIX_BYTES });
        }
        let found = source.get_u32_le();
        if found != MAGIC {
            return Err(FrameError::Magic { found });
        }
        let header_length = source.get_u32_le() as usize;
        if header_length > EXCHANGE_HEADER_BYTES_MAX {
            return Err(FrameError::HeaderTooLarge { length: header_length });
        }
        if header_length > source.remaining() {
            return Err(FrameError::Truncated { length, needed: PREFIX_BYTES + header_length });
        }
        let header = source.copy_to_bytes(header_length);
        let header =
            ExchangeHeader::decode(header).map_err(|source| FrameError::Header { source })?;
        let rows = source.copy_to_bytes(source.remaining());
        Ok(Self { header, rows })
    }
}

impl From<FrameError> for Status {
    fn from(error: FrameError) -> Self {
        match &error {
            FrameError::Truncated { .. } => Status::data_loss(error.to_string()),
            FrameError::Header { source } => Status::invalid_argument(format!("{error}: {source}")),
            FrameError::Magic { .. }
            | FrameError::HeaderTooLarge { .. }
            | FrameError::FrameTooLarge { .. } => Status::invalid_argument(error.to_string()),
        }
    }
}

/// tonic's codec for [`ExchangeFrame`] in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExchangeCodec;

impl Codec for ExchangeCodec {
    type Encode = ExchangeFrame;
    type Decode = ExchangeFrame;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        *self
    }

    fn decoder(&mut self) -> Self::Decoder {
        *self
    }
}

impl Encoder for ExchangeCodec {
    type Item = ExchangeFrame;
    type Error = Status;

    fn encode(&mut self, item: ExchangeFrame, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.reserve(item.encoded_len().min(EXCHANGE_FRAME_BYTES_MAX));
        Ok(item.encode(target)?)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

impl Decoder for ExchangeCodec {
    type Item = ExchangeFrame;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<ExchangeFrame>, Status> {
        Ok(Some(ExchangeFrame::decode(source)?))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}
