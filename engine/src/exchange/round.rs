//! One pause of a pass: its rows, who was asked for which expert, and the outputs so far.

use super::PeerId;
use crate::engine::Now;
use model::executor::{ExpertAddress, ExpertCall, RoutedRows};
use std::collections::BTreeMap;

/// Where one expert's rows stand. They are always asked for and settled together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody computes them who is expected to answer in time.
    Unasked,
    /// We compute them ourselves.
    Local,
    /// This call is expected to answer in time.
    Asked {
        call_id: u64,
    },
    Settled,
}

/// One expert's part of a pause.
#[derive(Clone, Debug)]
struct ExpertPart {
    /// Which routes of the pause; the outputs go there.
    routes: Vec<usize>,
    /// The row of each of them.
    rows: Vec<u32>,
    state: State,
}

/// Whether an unanswered call has had its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    At(Now),
    /// Others were asked in the meantime; its answer is still welcome.
    Late,
}

/// A call without an answer.
#[derive(Clone, Debug)]
struct OpenCall {
    peer: PeerId,
    /// In the order of the call.
    experts: Vec<u32>,
    expected: Expected,
}

/// An answer that was taken off the list of open calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    InTime,
    Late,
}

/// A call's rows, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub(super) calls: Vec<ExpertCall>,
    pub(super) row_count: u32,
    pub(super) rows: Vec<u8>,
}

/// The state of one pause.
#[derive(Clone, Debug)]
pub(super) struct Round {
    layer: u32,
    row_bytes: usize,
    /// `[row_count, row_bytes]`.
    rows: Vec<u8>,
    /// `[routes, row_bytes]`.
    outputs: Vec<u8>,
    parts: BTreeMap<u32, ExpertPart>,
    open_calls: BTreeMap<u64, OpenCall>,
}

impl Round {
    pub(super) fn new(routed: RoutedRows, row_bytes: usize) -> Self {
        let RoutedRows { layer, row_count, rows, routes } = routed;
        assert_eq!(rows.len(), row_count * row_bytes, "a pause's rows are not in the row format");
        let mut parts: BTreeMap<u32, ExpertPart> = BTreeMap::new();
        for (index, route) in routes.iter().enumerate() {
            assert!((route.row as usize) < row_count, "a route names row {}", route.row);
            let part = parts.entry(route.expert).or_insert(ExpertPart {
                routes: Vec::new(),
                rows: Vec::new(),
                state: State::Unasked,
            });
            part.routes.push(index);
            part.rows.push(route.row);
        }
        let outputs = vec![0; routes.len() * row_bytes];
        Self { layer, row_bytes, rows, outputs, parts, open_calls: BTreeMap::new() }
    }

    // -- getters

    pub(super) fn layer(&self) -> u32 {
        self.layer
    }

    pub(super) fn address(&self, expert: u32) -> ExpertAddress {
        ExpertAddress { layer: self.layer, expert }
    }

    /// All rows, for a local call.
    pub(super) fn rows(&self) -> &[u8] {
        &self.rows
    }

    pub(super) fn is_complete(&self) -> bool {
        self.parts.values().all(|part| part.state == State::Settled)
    }

    /// The output row of each route, in order.
    pub(super) fn outputs(&self) -> Vec<&[u8]> {
        self.outputs.chunks_exact(self.row_bytes.max(1)).collect()
    }

    /// Experts for which nobody is to answer in time.
    pub(super) fn unasked(&self) -> Vec<u32> {
        self.in_state(State::Unasked)
    }

    pub(super) fn local(&self) -> Vec<u32> {
        self.in_state(State::Local)
    }

    /// Whether the answer to this call would still be of use.
    pub(super) fn is_wanted(&self, call_id: u64) -> bool {
        self.open_calls.get(&call_id).is_some_and(|call| self.has_unsettled(call))
    }

    /// The next time at which a call becomes late.
    pub(super) fn next_deadline(&self) -> Option<Now> {
        self.open_calls
            .values()
            .filter_map(|call| match call.expected {
                Expected::At(deadline) if self.has_unsettled(call) => Some(deadline),
                Expected::At(_) | Expected::Late => None,
            })
            .min()
    }

    /// Calls for which the deadline has come while their rows are still missing.
    pub(super) fn overdue(&self, now: Now) -> Vec<(u64, PeerId)> {
        self.calls_where(|call| match call.expected {
            Expected::At(deadline) => deadline <= now && self.has_unsettled(call),
            Expected::Late => false,
        })
    }

    pub(super) fn calls_of(&self, peer: &PeerId) -> Vec<(u64, PeerId)> {
        self.calls_where(|call| call.peer == *peer)
    }

    /// Calls that ask a peer for an expert which it should not be asked for.
    pub(super) fn calls_against(&self, allowed: impl Fn(&PeerId, u32) -> bool) -> Vec<u64> {
        let against =
            |call: &OpenCall| call.experts.iter().any(|expert| !allowed(&call.peer, *expert));
        self.calls_where(against).into_iter().map(|(call_id, _)| call_id).collect()
    }

    /// Whether a call for the expert, late as it may be, can still be answered.
    pub(super) fn has_open_call(&self, expert: u32) -> bool {
        self.open_calls.values().any(|call| call.experts.contains(&expert))
    }

    /// Bytes of a right answer to the call.
    pub(super) fn expected_bytes(&self, call_id: u64) -> usize {
        let pairs = self.open_calls.get(&call_id).map_or(0, |call| self.pairs(&call.experts));
        pairs * self.row_bytes
    }

    /// (row, expert) pairs of these experts.
    pub(super) fn pairs(&self, experts: &[u32]) -> usize {
        experts.iter().filter_map(|expert| self.parts.get(expert)).map(|part| part.rows.len()).sum()
    }

    /// (row, expert) pairs without an output.
    pub(super) fn missing_pairs(&self) -> usize {
        let missing = self.parts.values().filter(|part| part.state != State::Settled);
        missing.map(|part| part.rows.len()).sum()
    }

    /// The experts' calls with indices into all rows.
    pub(super) fn local_calls(&self, experts: &[u32]) -> Vec<ExpertCall> {
        experts
            .iter()
            .filter_map(|&expert| {
                let part = self.parts.get(&expert)?;
                Some(ExpertCall { expert, rows: part.rows.clone() })
            })
            .collect()
    }

    // -- mutators

    pub(super) fn compute_locally(&mut self, expert: u32) {
        if let Some(part) = self.parts.get_mut(&expert) {
            part.state = State::Local;
        }
    }

    pub(super) fn unask_local(&mut self, expert: u32) {
        if let Some(part) = self.parts.get_mut(&expert)
            && part.state == State::Local
        {
            part.state = State::Unasked;
        }
    }

    /// Opens a call and returns its rows, each distinct one once.
    pub(super) fn ask(
        &mut self,
        call_id: u64,
        peer: PeerId,
        experts: Vec<u32>,
        deadline: Now,
    ) -> Payload {
        let mut calls = self.local_calls(&experts);
        let mut sent: BTreeMap<u32, u32> = BTreeMap::new();
        for &row in calls.iter().flat_map(|call| &call.rows) {
            sent.insert(row, 0);
        }
        let mut rows = Vec::with_capacity(sent.len() * self.row_bytes);
        for (index, (&row, sent_as)) in (0u32..).zip(&mut sent) {
            *sent_as = index;
            let start = row as usize * self.row_bytes;
            rows.extend_from_slice(&self.rows[start..start + self.row_bytes]);
        }
        for row in calls.iter_mut().flat_map(|call| &mut call.rows) {
            *row = sent[row];
        }
        for expert in &experts {
            if let Some(part) = self.parts.get_mut(expert) {
                part.state = State::Asked { call_id };
            }
        }
        let expected = Expected::At(deadline);
        self.open_calls.insert(call_id, OpenCall { peer, experts, expected });
        Payload { calls, row_count: sent.len() as u32, rows }
    }

    /// No longer counts on the call; its answer stays welcome.
    pub(super) fn expect_no_more(&mut self, call_id: u64) {
        if let Some(call) = self.open_calls.get_mut(&call_id) {
            call.expected = Expected::Late;
        }
        self.unask(call_id);
    }

    /// The call will never be answered. Says whether rows must be asked for again because of it.
    pub(super) fn fail(&mut self, call_id: u64) -> bool {
        self.open_calls.remove(&call_id);
        self.unask(call_id)
    }

    /// Whether the call is open and was sent to that peer.
    pub(super) fn is_open(&self, call_id: u64, peer: &PeerId) -> bool {
        self.open_calls.get(&call_id).is_some_and(|call| call.peer == *peer)
    }

    /// Places the answer to an open call; it has the expected size.
    pub(super) fn settle_call(
        &mut self,
        now: Now,
        call_id: u64,
        outputs: &[u8],
    ) -> Option<Arrival> {
        let call = self.open_calls.remove(&call_id)?;
        self.settle(&call.experts, outputs);
        Some(match call.expected {
            Expected::At(deadline) if now <= deadline => Arrival::InTime,
            Expected::At(_) | Expected::Late => Arrival::Late,
        })
    }

    /// Places output rows, in the order of the experts and of each expert's rows. The first answer stays.
    pub(super) fn settle(&mut self, experts: &[u32], outputs: &[u8]) {
        let mut next = outputs.chunks_exact(self.row_bytes.max(1));
        for expert in experts {
            let Some(part) = self.parts.get_mut(expert) else { continue };
            for (&route, output) in part.routes.iter().zip(&mut next) {
                if part.state != State::Settled {
                    let start = route * self.row_bytes;
                    self.outputs[start..start + self.row_bytes].copy_from_slice(output);
                }
            }
            part.state = State::Settled;
        }
    }

    // -- internals

    fn unask(&mut self, call_id: u64) -> bool {
        let mut any = false;
        for part in self.parts.values_mut() {
            if part.state == (State::Asked { call_id }) {
                part.state = State::Unasked;
                any = true;
            }
        }
        any
    }

    fn in_state(&self, state: State) -> Vec<u32> {
        self.parts
            .iter()
            .filter(|(_, part)| part.state == state)
            .map(|(expert, _)| *expert)
            .collect()
    }

    fn has_unsettled(&self, call: &OpenCall) -> bool {
        call.experts
            .iter()
            .filter_map(|expert| self.parts.get(expert))
            .any(|part| part.state != State::Settled)
    }

    fn calls_where(&self, wanted: impl Fn(&OpenCall) -> bool) -> Vec<(u64, PeerId)> {
        self.open_calls
            .iter()
            .filter(|(_, call)| wanted(call))
            .map(|(call_id, call)| (*call_id, call.peer.clone()))
            .collect()
    }
}
