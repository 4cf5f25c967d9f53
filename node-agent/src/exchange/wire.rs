//! Exchange frames ⇄ the engine's values. Wire types stay in here.

use crate::limits::LATE_ANSWER_MAX;
use bytes::Bytes;
use engine::exchange::{CallFailure, Transmit};
use model::executor::{ExpertCall, ExpertError, Experts, RowFormat};
use proto::exchange::ExchangeFrame;
use proto::limits::{EXCHANGE_FRAME_BYTES_MAX, EXCHANGE_HEADER_BYTES_MAX};
use proto::v1::RowFormat as WireRowFormat;
use proto::v1::exchange_header::Body;
use proto::v1::{
    CallError, CallErrorCode, CombineHeader, DispatchHeader, ExchangeHeader, ExpertRows,
    HelloHeader,
};
use std::time::Duration;

/// What one side of a stream says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub deployment: String,
    pub agent_id: String,
    pub generation: u64,
    pub row_format: RowFormat,
    pub row_length: usize,
    /// Of the model; empty when nobody knows it.
    pub fingerprint: String,
}

/// The other side is not the one we can exchange rows with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    #[error("the first frame is no hello")]
    Missing,
    #[error("the peer serves deployment {theirs:?} and this agent {ours:?}")]
    Deployment { theirs: String, ours: String },
    #[error("the peer is {found:?} and not {expected:?}; its address has another owner now")]
    Agent { found: String, expected: String },
    #[error(
        "the peer's model has fingerprint {theirs} and this agent's {ours}; give both the same files"
    )]
    Fingerprint { theirs: String, ours: String },
    #[error(
        "the peer's rows are {theirs} and this agent's are {ours}; give both one kernel path and one model"
    )]
    Rows { theirs: String, ours: String },
}

/// A peer's call that is not computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallRefused {
    #[error("{row_count} rows of {row_bytes} bytes were announced and {given} bytes came")]
    Payload { row_count: u32, row_bytes: usize, given: usize },
    #[error("the {pairs} outputs of this call would not fit one frame; send fewer rows at once")]
    TooManyOutputs { pairs: usize },
    #[error("a call has experts; this one has none")]
    NoExperts,
}

/// A peer's call, within bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub call_id: u64,
    pub layer: u32,
    pub calls: Vec<ExpertCall>,
    pub rows: Bytes,
    /// How long the answer is of use.
    pub deadline: Duration,
}

/// The name of a row format on the wire.
pub fn row_format(format: RowFormat) -> WireRowFormat {
    match format {
        RowFormat::F32 => WireRowFormat::F32,
        RowFormat::Bf16 => WireRowFormat::Bf16,
    }
}

impl Hello {
    pub fn frame(&self) -> ExchangeFrame {
        let hello = HelloHeader {
            deployment: self.deployment.clone(),
            agent_id: self.agent_id.clone(),
            generation: self.generation,
            row_format: row_format(self.row_format).into(),
            row_length: u32::try_from(self.row_length).unwrap_or(u32::MAX),
            fingerprint: self.fingerprint.clone(),
        };
        frame(0, Body::Hello(hello), Bytes::new())
    }

    /// Checks the other side's first frame and returns its name.
    ///
    /// # Errors
    /// [`HelloError`].
    pub fn check(&self, frame: &ExchangeFrame) -> Result<String, HelloError> {
        let Some(Body::Hello(theirs)) = &frame.header.body else { return Err(HelloError::Missing) };
        if theirs.deployment != self.deployment {
            let (theirs, ours) = (theirs.deployment.clone(), self.deployment.clone());
            return Err(HelloError::Deployment { theirs, ours });
        }
        let known = !theirs.fingerprint.is_empty() && !self.fingerprint.is_empty();
        if known && theirs.fingerprint != self.fingerprint {
            let (theirs, ours) = (theirs.fingerprint.clone(), self.fingerprint.clone());
            return Err(HelloError::Fingerprint { theirs, ours });
        }
        let ours = row_format(self.row_format);
        if theirs.row_format != i32::from(ours) || theirs.row_length as usize != self.row_length {
            let text = |format: WireRowFormat, length: usize| {
                format!("{} of {length}", format.as_str_name())
            };
            let theirs = text(theirs.row_format(), theirs.row_length as usize);
            return Err(HelloError::Rows { theirs, ours: text(ours, self.row_length) });
        }
        Ok(theirs.agent_id.clone())
    }
}

/// The frame of one of our calls.
///
/// # Errors
/// [`CallFailure::Refused`] when it does not fit a frame; sending it would break the stream.
pub fn dispatch_frame(transmit: Transmit) -> Result<ExchangeFrame, CallFailure> {
    let Transmit { peer: _, call_id, layer, calls, row_count, rows, deadline } = transmit;
    let experts =
        calls.into_iter().map(|ExpertCall { expert, rows }| ExpertRows { expert, rows }).collect();
    let useful = deadline + LATE_ANSWER_MAX;
    let deadline_ms = u32::try_from(useful.as_millis()).unwrap_or(u32::MAX);
    let header = DispatchHeader { layer, row_count, experts, deadline_ms };
    let frame = frame(call_id, Body::Dispatch(header), Bytes::from(rows));
    let header_length = prost::Message::encoded_len(&frame.header);
    let length = frame.encoded_len();
    if header_length > EXCHANGE_HEADER_BYTES_MAX || length > EXCHANGE_FRAME_BYTES_MAX {
        return Err(CallFailure::Refused(format!("a call of {length} bytes fits no frame")));
    }
    Ok(frame)
}

/// A peer's call, checked against our rows.
///
/// # Errors
/// [`CallRefused`], to be answered with [`refusal_frame`].
pub fn parse_dispatch(
    call_id: u64,
    header: DispatchHeader,
    rows: Bytes,
    experts: &dyn Experts,
) -> Result<Call, CallRefused> {
    let DispatchHeader { layer, row_count, experts: wanted, deadline_ms } = header;
    let row_bytes = experts.row_format().row_bytes(experts.row_length());
    if row_bytes.checked_mul(row_count as usize) != Some(rows.len()) {
        return Err(CallRefused::Payload { row_count, row_bytes, given: rows.len() });
    }
    if wanted.is_empty() {
        return Err(CallRefused::NoExperts);
    }
    let pairs: usize = wanted.iter().map(|expert| expert.rows.len()).sum();
    let room = EXCHANGE_FRAME_BYTES_MAX - EXCHANGE_HEADER_BYTES_MAX;
    if pairs.checked_mul(row_bytes).is_none_or(|bytes| bytes > room) {
        return Err(CallRefused::TooManyOutputs { pairs });
    }
    let calls =
        wanted.into_iter().map(|ExpertRows { expert, rows }| ExpertCall { expert, rows }).collect();
    let deadline = Duration::from_millis(u64::from(deadline_ms));
    Ok(Call { call_id, layer, calls, rows, deadline })
}

/// The answer to a call: `row_count` output rows.
pub fn combine_frame(call_id: u64, layer: u32, row_count: usize, rows: Vec<u8>) -> ExchangeFrame {
    let row_count = u32::try_from(row_count).unwrap_or(u32::MAX);
    frame(call_id, Body::Combine(CombineHeader { layer, row_count }), Bytes::from(rows))
}

/// The answer to a call that is not computed.
pub fn error_frame(call_id: u64, code: CallErrorCode, message: impl Into<String>) -> ExchangeFrame {
    let error = CallError { code: code.into(), message: message.into() };
    frame(call_id, Body::Error(error), Bytes::new())
}

/// The code of an expert error.
pub fn code_of(error: &ExpertError) -> CallErrorCode {
    match error {
        ExpertError::NotResident { .. } => CallErrorCode::NotResident,
        ExpertError::RowOutOfRange { .. } | ExpertError::PayloadSize { .. } => {
            CallErrorCode::Invalid
        }
    }
}

/// A peer's refusal in the engine's words.
pub fn failure_of(error: CallError) -> CallFailure {
    match error.code() {
        CallErrorCode::NotResident => CallFailure::NotResident(error.message),
        CallErrorCode::Overloaded => CallFailure::Overloaded,
        CallErrorCode::Invalid | CallErrorCode::Internal | CallErrorCode::Unspecified => {
            CallFailure::Refused(error.message)
        }
    }
}

fn frame(call_id: u64, body: Body, rows: Bytes) -> ExchangeFrame {
    ExchangeFrame { header: ExchangeHeader { call_id, body: Some(body) }, rows }
}

#[cfg(test)]
mod tests;
