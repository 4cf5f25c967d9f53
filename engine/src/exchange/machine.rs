//! The exchange of one engine: takes the rows of a pause, returns their outputs.

use super::peers::{Disappointment, Peers};
use super::round::{Arrival, Round};
use super::{CallFailure, PeerId, Placement, Transmit};
use crate::engine::Now;
use model::executor::{ExpertAddress, RoutedRows, SharedExperts};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How often a pass without any reachable copy looks again, should no event wake it. Only a safety net: peers that
/// come up and new placements are events.
const UNREACHABLE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Rows and calls so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeTotals {
    /// (row, expert) pairs computed by ourselves.
    pub rows_local: u64,
    /// (row, expert) pairs whose output came from a peer.
    pub rows_remote: u64,
    /// Calls that failed or were late while their rows were still missing.
    pub failovers: u64,
}

/// At most one pause is open at a time.
///
/// Our own copy comes first, then the placement's order among peers whose stream is open and that did not disappoint
/// lately; when all copies are merely slow, a slow one. Rows of a failed or late call go to the next copy at once; a late answer is still welcome, the first one
/// stays (all copies answer bit by bit the same). Without a reachable copy the pause waits; it never fails.
#[derive(Debug)]
pub struct Exchange {
    placement: Placement,
    experts: SharedExperts,
    resident: BTreeSet<ExpertAddress>,
    expert_deadline: Duration,
    peers: Peers,
    round: Option<Round>,
    /// Never used twice, so that an answer to an old call is known as such.
    next_call_id: u64,
    transmits: VecDeque<Transmit>,
    totals: ExchangeTotals,
}

impl Exchange {
    pub fn new(placement: Placement, experts: SharedExperts, expert_deadline: Duration) -> Self {
        let mut peers = Peers::default();
        peers.set_up(&placement.local);
        Self {
            resident: experts.resident().into_iter().collect(),
            placement,
            experts,
            expert_deadline,
            peers,
            round: None,
            next_call_id: 0,
            transmits: VecDeque::new(),
            totals: ExchangeTotals::default(),
        }
    }

    // -- mutators

    /// Opens a pause and asks the peers. Local experts wait for [`Exchange::compute_local`].
    pub fn start(&mut self, now: Now, routed: RoutedRows) {
        let row_bytes = self.experts.row_format().row_bytes(self.experts.row_length());
        self.round = Some(Round::new(routed, row_bytes));
        self.dispatch(now);
    }

    /// Computes what was kept for our own experts; says whether there was anything.
    pub fn compute_local(&mut self, now: Now) -> bool {
        let Some(round) = &mut self.round else { return false };
        let experts = round.local();
        if experts.is_empty() {
            return false;
        }
        let calls = round.local_calls(&experts);
        let pairs = round.pairs(&experts);
        let row_bytes = self.experts.row_format().row_bytes(self.experts.row_length());
        let failure = match self.experts.compute(round.layer(), &calls, round.rows()) {
            Ok(outputs) if outputs.len() == pairs * row_bytes => {
                round.settle(&experts, &outputs);
                self.totals.rows_local += pairs as u64;
                self.peers.recovered(&self.placement.local);
                return true;
            }
            Ok(outputs) => format!("{} bytes for {pairs} rows of {row_bytes}", outputs.len()),
            Err(error) => error.to_string(),
        };
        for expert in experts {
            round.unask_local(expert);
        }
        let local = self.placement.local.clone();
        self.peers.disappointed(now, &local, Disappointment::Failed, failure);
        self.totals.failovers += 1;
        self.dispatch(now);
        true
    }

    /// Looks at the clock: overdue calls and peers whose back-off is over.
    pub fn advance(&mut self, now: Now) {
        let Some(round) = &mut self.round else { return };
        for (call_id, peer) in round.overdue(now) {
            round.expect_no_more(call_id);
            let reason = format!("no answer within {} ms", self.expert_deadline.as_millis());
            self.peers.disappointed(now, &peer, Disappointment::Late, reason);
            self.totals.failovers += 1;
        }
        self.dispatch(now);
    }

    /// Drops the open pause; answers that still come are ignored.
    pub fn abandon(&mut self) {
        self.round = None;
    }

    // -- what happened outside

    pub fn handle_reply(
        &mut self,
        now: Now,
        peer: &PeerId,
        call_id: u64,
        reply: Result<Vec<u8>, CallFailure>,
    ) {
        let Some(round) = &mut self.round else { return };
        if !round.is_open(call_id, peer) {
            return;
        }
        let expected = round.expected_bytes(call_id);
        let failure = match reply {
            Ok(outputs) if outputs.len() == expected => {
                let before = round.missing_pairs();
                let arrival = round.settle_call(now, call_id, &outputs);
                self.totals.rows_remote += (before - round.missing_pairs()) as u64;
                if arrival == Some(Arrival::InTime) {
                    self.peers.recovered(peer);
                }
                return;
            }
            Ok(outputs) => CallFailure::Refused(format!(
                "the answer has {} bytes, not {expected}",
                outputs.len()
            )),
            Err(failure) => failure,
        };
        if round.fail(call_id) {
            self.totals.failovers += 1;
        }
        self.peers.disappointed(now, peer, Disappointment::Failed, failure.to_string());
        self.dispatch(now);
    }

    pub fn handle_peer_up(&mut self, now: Now, peer: &PeerId) {
        self.peers.set_up(peer);
        self.dispatch(now);
    }

    pub fn handle_peer_down(&mut self, now: Now, peer: &PeerId, reason: &str) {
        if *peer == self.placement.local {
            return;
        }
        self.peers.set_down(now, peer, reason);
        if let Some(round) = &mut self.round {
            for (call_id, _) in round.calls_of(peer) {
                if round.fail(call_id) {
                    self.totals.failovers += 1;
                }
            }
        }
        self.dispatch(now);
    }

    pub fn handle_placement(&mut self, now: Now, placement: Placement, experts: SharedExperts) {
        self.resident = experts.resident().into_iter().collect();
        self.experts = experts;
        self.peers.set_up(&placement.local);
        let named: BTreeSet<&PeerId> = placement.copies.values().flatten().collect();
        self.peers.forget_down(|peer| named.contains(peer));
        if let Some(round) = &mut self.round {
            for expert in round.local() {
                round.unask_local(expert);
            }
            let layer = round.layer();
            let holds = |peer: &PeerId, expert: u32| {
                let copies = placement.copies.get(&ExpertAddress { layer, expert });
                copies.is_some_and(|copies| copies.contains(peer))
            };
            for call_id in round.calls_against(holds) {
                round.expect_no_more(call_id);
            }
        }
        self.placement = placement;
        self.dispatch(now);
    }

    // -- what to do next

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            let transmit = self.transmits.pop_front()?;
            if self.is_wanted(transmit.call_id) {
                return Some(transmit);
            }
        }
    }

    // -- getters

    /// Whether [`Exchange::poll_transmit`] has something.
    pub fn has_transmit(&self) -> bool {
        self.transmits.iter().any(|transmit| self.is_wanted(transmit.call_id))
    }

    /// Whether every output of the open pause is there.
    pub fn is_complete(&self) -> bool {
        self.round.as_ref().is_some_and(Round::is_complete)
    }

    /// Whether there is an expert that nobody can be asked for now.
    pub fn is_stuck(&self) -> bool {
        self.round.as_ref().is_some_and(|round| !round.unasked().is_empty())
    }

    /// How long one copy may take.
    pub fn expert_deadline(&self) -> Duration {
        self.expert_deadline
    }

    /// The output row of each route of the open pause, in order.
    pub fn outputs(&self) -> Vec<&[u8]> {
        self.round.as_ref().map_or_else(Vec::new, Round::outputs)
    }

    /// When to call [`Exchange::advance`] at the latest; after `now`.
    pub fn wake_at(&self, now: Now) -> Now {
        let Some(round) = &self.round else { return now + UNREACHABLE_RETRY_INTERVAL };
        let retries = round
            .unasked()
            .into_iter()
            .flat_map(|expert| self.holders(round.address(expert)))
            .filter_map(|peer| self.peers.usable_from(peer));
        retries
            .chain(round.next_deadline())
            .filter(|time| *time > now)
            .min()
            .unwrap_or(now + UNREACHABLE_RETRY_INTERVAL)
    }

    pub fn totals(&self) -> ExchangeTotals {
        self.totals
    }

    /// Peers that failed or are late, with the reason.
    pub fn troubles(&self) -> Vec<(PeerId, String)> {
        self.peers.troubles()
    }

    // -- internals

    fn is_wanted(&self, call_id: u64) -> bool {
        self.round.as_ref().is_some_and(|round| round.is_wanted(call_id))
    }

    /// Who holds an expert, in the order in which to ask: ourselves first, and by what is really in memory.
    fn holders(&self, address: ExpertAddress) -> impl Iterator<Item = &PeerId> {
        let local = self.resident.contains(&address).then_some(&self.placement.local);
        let copies = self.placement.copies.get(&address).into_iter().flatten();
        local.into_iter().chain(copies.filter(|peer| **peer != self.placement.local))
    }

    /// Whom to ask for an expert now.
    fn choose(&self, now: Now, round: &Round, expert: u32) -> Option<&PeerId> {
        let usable = |peer: &&PeerId| self.peers.usable_from(peer).is_some_and(|at| at <= now);
        let address = round.address(expert);
        let first = self.holders(address).find(usable);
        // Not as a hedge: when everybody is slow, asking twice makes it worse.
        if first.is_some() || round.has_open_call(expert) {
            return first;
        }
        self.holders(address).find(|peer| self.peers.is_merely_late(peer))
    }

    /// Finds somebody for every expert that nobody is to answer for.
    fn dispatch(&mut self, now: Now) {
        let Some(mut round) = self.round.take() else { return };
        let mut groups: BTreeMap<PeerId, Vec<u32>> = BTreeMap::new();
        for expert in round.unasked() {
            match self.choose(now, &round, expert) {
                Some(peer) if *peer == self.placement.local => round.compute_locally(expert),
                Some(peer) => groups.entry(peer.clone()).or_default().push(expert),
                None => {}
            }
        }
        for (peer, experts) in groups {
            let call_id = self.next_call_id;
            self.next_call_id += 1;
            let deadline = self.expert_deadline;
            let payload = round.ask(call_id, peer.clone(), experts, now + deadline);
            self.transmits.push_back(Transmit {
                peer,
                call_id,
                layer: round.layer(),
                calls: payload.calls,
                row_count: payload.row_count,
                rows: payload.rows,
                deadline,
            });
        }
        self.round = Some(round);
    }
}
