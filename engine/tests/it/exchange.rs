//! The exchange's rules one by one, with a hand-moved clock.

use crate::toy::{ToyExperts, expert_output};
use engine::engine::Now;
use engine::exchange::{CallFailure, Exchange, PeerId, Placement, Transmit};
use model::executor::{ExpertAddress, Experts, Route, RoutedRows};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_millis(100);
/// The layer of all pauses here.
const LAYER: u32 = 1;

fn at(milliseconds: u64) -> Now {
    Duration::from_millis(milliseconds)
}

fn peer(name: &str) -> PeerId {
    PeerId(name.to_owned())
}

fn address(expert: u32) -> ExpertAddress {
    ExpertAddress { layer: LAYER, expert }
}

/// `copies[i]` hold expert i.
fn placement(copies: &[&[&str]]) -> Placement {
    let copies = (0u32..)
        .zip(copies)
        .map(|(expert, peers)| (address(expert), peers.iter().map(|name| peer(name)).collect()))
        .collect();
    Placement { generation: 1, local: peer("home"), copies }
}

fn local(experts: &[u32]) -> Arc<ToyExperts> {
    Arc::new(ToyExperts::some(experts.iter().map(|expert| address(*expert)).collect()))
}

/// An exchange without own experts whose peers are all up.
fn exchange(copies: &[&[&str]]) -> Exchange {
    let mut exchange = Exchange::new(placement(copies), local(&[]), DEADLINE);
    for peers in copies {
        for name in *peers {
            exchange.handle_peer_up(at(0), &peer(name));
        }
    }
    exchange
}

/// Each row's experts.
fn routed(experts: &[&[u32]]) -> RoutedRows {
    let rows = (0..experts.len() as u64).flat_map(|row| (row * 77 + 5).to_le_bytes()).collect();
    let routes = (0u32..)
        .zip(experts)
        .flat_map(|(row, experts)| experts.iter().map(move |&expert| Route { row, expert }));
    RoutedRows { layer: LAYER, row_count: experts.len(), rows, routes: routes.collect() }
}

fn transmits(exchange: &mut Exchange) -> Vec<Transmit> {
    std::iter::from_fn(|| exchange.poll_transmit()).collect()
}

fn one_transmit(exchange: &mut Exchange, to: &str) -> Transmit {
    let mut all = transmits(exchange);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].peer, peer(to));
    all.remove(0)
}

fn right_answer(transmit: &Transmit) -> Vec<u8> {
    ToyExperts::all().compute(transmit.layer, &transmit.calls, &transmit.rows).unwrap()
}

fn answer(exchange: &mut Exchange, now: Now, transmit: &Transmit) {
    exchange.handle_reply(now, &transmit.peer, transmit.call_id, Ok(right_answer(transmit)));
}

fn assert_complete(exchange: &Exchange, routed: &RoutedRows) {
    assert!(exchange.is_complete());
    let expected: Vec<[u8; 8]> = routed
        .routes
        .iter()
        .map(|route| {
            let start = route.row as usize * 8;
            expert_output(LAYER, route.expert, &routed.rows[start..start + 8])
        })
        .collect();
    assert_eq!(exchange.outputs(), expected);
}

#[test]
fn own_copy_comes_first_and_each_peer_gets_distinct_rows_once() {
    let mut exchange =
        Exchange::new(placement(&[&["a", "home"], &["a"], &["a"], &["b"]]), local(&[0]), DEADLINE);
    exchange.handle_peer_up(at(0), &peer("a"));
    exchange.handle_peer_up(at(0), &peer("b"));
    let pause = routed(&[&[0, 3], &[2, 1], &[1, 0], &[1, 2]]);
    exchange.start(at(0), pause.clone());
    let sent = transmits(&mut exchange);
    assert_eq!(sent.len(), 2);
    assert_eq!((sent[0].peer.clone(), sent[0].row_count), (peer("a"), 3));
    assert_eq!(sent[0].rows, pause.rows[8..]);
    let rows = |call: usize| (sent[0].calls[call].expert, sent[0].calls[call].rows.clone());
    assert_eq!((rows(0), rows(1)), ((1, vec![0, 1, 2]), (2, vec![0, 2])));
    assert_eq!((sent[1].peer.clone(), sent[1].row_count), (peer("b"), 1));
    assert_eq!(sent[1].deadline, DEADLINE);
    assert!(exchange.compute_local(at(1)));
    assert!(!exchange.compute_local(at(1)), "once is enough");
    answer(&mut exchange, at(2), &sent[1]);
    assert!(!exchange.is_complete());
    answer(&mut exchange, at(3), &sent[0]);
    assert_complete(&exchange, &pause);
    let totals = exchange.totals();
    assert_eq!((totals.rows_local, totals.rows_remote, totals.failovers), (2, 6, 0));
}

#[test]
fn late_peer_is_hedged_avoided_and_tried_again() {
    let mut exchange = exchange(&[&["a", "b"]]);
    let pause = routed(&[&[0], &[0]]);
    exchange.start(at(0), pause.clone());
    let late = one_transmit(&mut exchange, "a");
    assert_eq!(exchange.wake_at(at(0)), DEADLINE);
    exchange.advance(at(99));
    assert!(!exchange.has_transmit());
    exchange.advance(at(100));
    let hedge = one_transmit(&mut exchange, "b");
    let reason = "no answer within 100 ms".to_owned();
    assert_eq!(exchange.troubles(), [(peer("a"), reason)]);
    // The late answer is as good as any; the other one is no longer needed.
    answer(&mut exchange, at(120), &late);
    assert_complete(&exchange, &pause);
    // Even one that disagrees: the first answer stays.
    let other = vec![0x55; right_answer(&hedge).len()];
    exchange.handle_reply(at(130), &hedge.peer, hedge.call_id, Ok(other));
    assert_complete(&exchange, &pause);
    assert_eq!((exchange.totals().rows_remote, exchange.totals().failovers), (2, 1));
    exchange.start(at(200), pause.clone());
    let avoided = one_transmit(&mut exchange, "b");
    answer(&mut exchange, at(210), &avoided);
    exchange.start(at(1100), pause.clone());
    let again = one_transmit(&mut exchange, "a");
    answer(&mut exchange, at(1110), &again);
    assert_complete(&exchange, &pause);
    assert_eq!(exchange.troubles(), []);
}

#[test]
fn slow_copies_are_better_than_none() {
    let mut exchange = exchange(&[&["a", "b"]]);
    let pause = routed(&[&[0]]);
    exchange.start(at(0), pause.clone());
    one_transmit(&mut exchange, "a");
    exchange.advance(at(100));
    let second = one_transmit(&mut exchange, "b");
    exchange.advance(at(200));
    // Both are late now. Nobody is asked a third time, but an answer still counts.
    assert!(!exchange.has_transmit());
    answer(&mut exchange, at(300), &second);
    assert_complete(&exchange, &pause);
    // The next pause does not sit out their back-off.
    exchange.start(at(301), pause.clone());
    let slow = one_transmit(&mut exchange, "a");
    exchange.advance(at(500));
    assert!(!exchange.has_transmit());
    answer(&mut exchange, at(600), &slow);
    assert_complete(&exchange, &pause);
    assert_eq!(exchange.troubles().len(), 2);
}

#[test]
fn backoff_grows_and_is_bounded() {
    let mut exchange = exchange(&[&["a"]]);
    exchange.start(at(0), routed(&[&[0]]));
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let call = one_transmit(&mut exchange, "a");
        let failure = Err(CallFailure::NotResident("loading".into()));
        exchange.handle_reply(now, &call.peer, call.call_id, failure);
        assert!(!exchange.has_transmit(), "asked again without a pause");
        let wake = exchange.wake_at(now);
        pauses.push((wake - now).as_millis());
        now = wake;
        exchange.advance(now);
    }
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
    let call = one_transmit(&mut exchange, "a");
    answer(&mut exchange, now, &call);
    assert!(exchange.is_complete());
}

#[test]
fn failed_call_goes_to_the_next_copy_at_once() {
    let garbled: [Result<Vec<u8>, CallFailure>; 5] = [
        Err(CallFailure::Overloaded),
        Err(CallFailure::Refused("no".into())),
        Err(CallFailure::ConnectionLost("reset".into())),
        Ok(vec![0; 7]),
        Ok(vec![0; 24]),
    ];
    for reply in garbled {
        let mut exchange = exchange(&[&["a", "b"]]);
        let pause = routed(&[&[0], &[0]]);
        exchange.start(at(0), pause.clone());
        let call = one_transmit(&mut exchange, "a");
        exchange.handle_reply(at(1), &call.peer, call.call_id, reply.clone());
        let reason = match reply {
            Ok(bytes) => format!("refused: the answer has {} bytes, not 16", bytes.len()),
            Err(failure) => failure.to_string(),
        };
        assert_eq!(exchange.troubles(), [(peer("a"), reason)]);
        let next = one_transmit(&mut exchange, "b");
        // The first one cannot answer twice.
        exchange.handle_reply(at(2), &call.peer, call.call_id, Ok(vec![1; 16]));
        answer(&mut exchange, at(3), &next);
        assert_complete(&exchange, &pause);
        assert_eq!(exchange.totals().failovers, 1);
    }
}

#[test]
fn broken_stream_fails_its_calls_and_an_open_one_is_used() {
    let mut exchange = exchange(&[&["a", "b"], &["a"]]);
    let pause = routed(&[&[0, 1]]);
    exchange.start(at(0), pause.clone());
    // Not even sent yet.
    exchange.handle_peer_down(at(1), &peer("a"), "reset");
    let rest = one_transmit(&mut exchange, "b");
    assert_eq!(rest.calls.len(), 1);
    answer(&mut exchange, at(2), &rest);
    exchange.advance(at(5000));
    assert!(!exchange.has_transmit() && !exchange.is_complete());
    assert_eq!(exchange.troubles(), [(peer("a"), "reset".to_owned())]);
    exchange.handle_peer_up(at(6000), &peer("a"));
    let call = one_transmit(&mut exchange, "a");
    assert_eq!(call.calls[0].expert, 1);
    answer(&mut exchange, at(6001), &call);
    assert_complete(&exchange, &pause);
    assert_eq!(exchange.troubles(), []);
}

#[test]
fn peers_are_down_until_they_are_up() {
    let mut exchange = Exchange::new(placement(&[&["a"]]), local(&[]), DEADLINE);
    let pause = routed(&[&[0]]);
    exchange.start(at(0), pause.clone());
    assert!(!exchange.has_transmit());
    assert!(exchange.wake_at(at(7)) > at(7));
    exchange.handle_peer_up(at(20), &peer("a"));
    let call = one_transmit(&mut exchange, "a");
    answer(&mut exchange, at(21), &call);
    assert_complete(&exchange, &pause);
}

#[test]
fn answers_that_nobody_waits_for_are_ignored() {
    let mut exchange = exchange(&[&["a", "b"]]);
    let pause = routed(&[&[0]]);
    exchange.handle_reply(at(0), &peer("a"), 0, Ok(vec![9; 8]));
    exchange.start(at(0), pause.clone());
    let abandoned = one_transmit(&mut exchange, "a");
    exchange.abandon();
    exchange.start(at(1), pause.clone());
    let call = one_transmit(&mut exchange, "a");
    assert_ne!(call.call_id, abandoned.call_id);
    exchange.handle_reply(at(2), &peer("a"), abandoned.call_id, Ok(vec![9; 8]));
    exchange.handle_reply(at(2), &peer("b"), call.call_id, Ok(vec![9; 8]));
    exchange.handle_reply(at(2), &peer("a"), call.call_id + 1, Err(CallFailure::Overloaded));
    assert!(!exchange.is_complete());
    assert_eq!(exchange.troubles(), []);
    answer(&mut exchange, at(3), &call);
    assert_complete(&exchange, &pause);
}

#[test]
fn new_placement_takes_over_in_the_middle() {
    let mut exchange = exchange(&[&["a"], &["b"], &["a"], &["b"]]);
    exchange.handle_peer_down(at(0), &peer("b"), "gone");
    let pause = routed(&[&[0, 1], &[2, 3]]);
    exchange.start(at(1), pause.clone());
    let old = one_transmit(&mut exchange, "a");
    exchange.handle_peer_up(at(2), &peer("c"));
    // Ours now: 0 and 1. Expert 2 has moved from a to c; 3 comes to c as well.
    let copies: &[&[&str]] = &[&["home"], &["home"], &["c"], &["c"]];
    exchange.handle_placement(at(3), placement(copies), local(&[0, 1]));
    let moved = one_transmit(&mut exchange, "c");
    assert_eq!(moved.calls.iter().map(|call| call.expert).collect::<Vec<_>>(), [2, 3]);
    assert!(exchange.compute_local(at(4)));
    assert_eq!(exchange.troubles(), [], "peers without a part are forgotten");
    // What was asked before is still welcome.
    answer(&mut exchange, at(5), &old);
    assert!(!exchange.is_complete());
    answer(&mut exchange, at(6), &moved);
    assert_complete(&exchange, &pause);
}

#[test]
fn experts_that_left_us_go_to_a_peer() {
    let copies: &[&[&str]] = &[&["home", "a"]];
    let mut exchange = Exchange::new(placement(copies), local(&[0]), DEADLINE);
    exchange.handle_peer_up(at(0), &peer("a"));
    let pause = routed(&[&[0]]);
    exchange.start(at(0), pause.clone());
    assert!(!exchange.has_transmit());
    exchange.handle_placement(at(1), placement(&[&["a"]]), local(&[]));
    let call = one_transmit(&mut exchange, "a");
    assert!(!exchange.compute_local(at(2)));
    answer(&mut exchange, at(2), &call);
    assert_complete(&exchange, &pause);
}

#[test]
fn calls_that_carry_only_some_missing_rows_still_settle_them() {
    // a holds both experts, b only the second: after the failover a's late answer brings the first one.
    let mut exchange = exchange(&[&["a"], &["a", "b"]]);
    let pause = routed(&[&[0, 1], &[1, 0]]);
    exchange.start(at(0), pause.clone());
    let late = one_transmit(&mut exchange, "a");
    exchange.advance(at(100));
    let part = one_transmit(&mut exchange, "b");
    answer(&mut exchange, at(110), &part);
    assert!(!exchange.is_complete());
    answer(&mut exchange, at(120), &late);
    assert_complete(&exchange, &pause);
    let totals = exchange.totals();
    assert_eq!((totals.rows_remote, totals.failovers), (4, 1));
}

#[test]
fn lost_call_to_the_only_copy_is_sent_again() {
    let mut exchange = exchange(&[&["a"]]);
    let pause = routed(&[&[0]]);
    exchange.start(at(0), pause.clone());
    one_transmit(&mut exchange, "a");
    let mut now = at(0);
    let mut waits = BTreeMap::new();
    let call = loop {
        now = exchange.wake_at(now);
        exchange.advance(now);
        waits.insert(now, exchange.has_transmit());
        if let Some(call) = exchange.poll_transmit() {
            break call;
        }
    };
    assert_eq!(waits, BTreeMap::from([(at(100), false), (at(1100), true)]));
    answer(&mut exchange, now, &call);
    assert_complete(&exchange, &pause);
}
