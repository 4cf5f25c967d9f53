//! Stop strings and characters across token boundaries.

use crate::harness::property_config;
use engine::output::{Finish, Output};
use engine::request::{EndOfSequence, FinishReason, Stop};
use engine::stop::{StopMatcher, StopScan};
use proptest::prelude::*;

/// Feeds the pieces; text that came out, and the stop string.
fn feed(pieces: &[String], strings: &[String]) -> (String, Option<String>) {
    let mut matcher = StopMatcher::new(strings);
    let mut out = String::new();
    let mut fed = String::new();
    for piece in pieces {
        fed.push_str(piece);
        match matcher.push(piece) {
            StopScan::Passed(text) => out.push_str(&text),
            StopScan::Stopped { before, stop_string } => return (out + &before, Some(stop_string)),
        }
        let held = fed.strip_prefix(&out).unwrap();
        let is_open = strings.iter().any(|string| string.starts_with(held) && string != held);
        assert!(held.is_empty() || is_open, "{held:?} is held back for nothing");
    }
    (out + &matcher.finish(), None)
}

/// The stop string that is complete first in the whole text, the longest of those, and the text before it.
fn naive(text: &str, strings: &[String]) -> (String, Option<String>) {
    for end in 0..=text.len() {
        let Some(so_far) = text.get(..end) else { continue };
        let ending = strings.iter().filter(|string| so_far.ends_with(string.as_str()));
        if let Some(string) = ending.max_by_key(|string| string.len()) {
            let before = &so_far[..end - string.len()];
            return (before.to_owned(), Some(string.clone()));
        }
    }
    (text.to_owned(), None)
}

proptest! {
    #![proptest_config(property_config(4096))]

    #[test]
    fn first_stop_string_wins_wherever_pieces_are_cut(
        pieces in proptest::collection::vec("[abé]{0,4}", 0..12),
        strings in proptest::collection::vec("[abé]{1,5}", 0..4),
    ) {
        prop_assert_eq!(feed(&pieces, &strings), naive(&pieces.concat(), &strings));
    }
}

#[test]
fn empty_stop_strings_match_nothing() {
    let strings = [String::new(), "b".to_owned()];
    assert_eq!(
        feed(&["aa".to_owned(), "ab".to_owned()], &strings),
        ("aaa".into(), Some("b".into()))
    );
}

fn output(strings: &[&str], max_tokens: usize) -> Output {
    let stop = Stop {
        max_tokens,
        strings: strings.iter().map(|&string| string.to_owned()).collect(),
        token_ids: vec![7],
        end_of_sequence: EndOfSequence::Stop,
    };
    Output::new(&stop, &[9])
}

fn end(reason: FinishReason, stop_string: Option<&str>, text: &str) -> Option<Finish> {
    Some(Finish { reason, stop_string: stop_string.map(str::to_owned), text: text.to_owned() })
}

/// Text of each token and the end.
fn accept(output: &mut Output, tokens: &[(u32, &[u8])]) -> (Vec<String>, Option<Finish>) {
    let mut texts = Vec::new();
    for (index, (token_id, bytes)) in tokens.iter().enumerate() {
        let accepted = output.accept(*token_id, bytes);
        texts.push(accepted.text);
        if accepted.finish.is_some() {
            assert_eq!(index + 1, tokens.len(), "ended too early");
            return (texts, accepted.finish);
        }
    }
    (texts, None)
}

#[test]
fn characters_come_out_whole() {
    let tokens: [(u32, &[u8]); 4] =
        [(1, b"a\xf0\x9f"), (2, b"\x98"), (3, b"\x80\xe6"), (4, b"\x97\xa5")];
    let (texts, finish) = accept(&mut output(&[], 9), &tokens);
    assert_eq!(texts, ["a", "", "😀", "日"]);
    assert_eq!(finish, None);
}

#[test]
fn broken_character_at_the_end_becomes_a_replacement() {
    let (texts, finish) = accept(&mut output(&[], 2), &[(1, b"a"), (2, b"b\xf0\x9f")]);
    assert_eq!(texts, ["a", "b"]);
    assert_eq!(finish, end(FinishReason::Length, None, "\u{fffd}"));
}

#[test]
fn stop_string_across_tokens_is_not_let_out() {
    let tokens: [(u32, &[u8]); 4] = [(1, b"one s"), (2, b"t"), (3, b"o"), (4, b"p two")];
    let (texts, finish) = accept(&mut output(&["stop"], 9), &tokens);
    assert_eq!(texts, ["one ", "", "", ""]);
    assert_eq!(finish, end(FinishReason::Stop, Some("stop"), ""));
}

#[test]
fn stop_string_through_half_a_character() {
    let tokens: [(u32, &[u8]); 3] = [(1, b"x\xc3"), (2, b"\xa9\xe6\x97"), (3, b"\xa5y")];
    let (texts, finish) = accept(&mut output(&["é日"], 9), &tokens);
    assert_eq!(texts, ["x", "", ""]);
    assert_eq!(finish, end(FinishReason::Stop, Some("é日"), ""));
}

#[test]
fn text_held_for_nothing_comes_with_the_next_token_or_the_end() {
    let (texts, finish) =
        accept(&mut output(&["stop"], 3), &[(1, b"st"), (2, b"ay sto"), (3, b"")]);
    assert_eq!(texts, ["", "stay ", ""]);
    assert_eq!(finish, end(FinishReason::Length, None, "sto"));
    for ending in [7, 9] {
        let (texts, finish) = accept(&mut output(&["stop"], 9), &[(1, b"a sto"), (ending, b"p")]);
        assert_eq!(texts, ["a ", ""], "an ending token has no text");
        assert_eq!(finish, end(FinishReason::Stop, None, "sto"));
    }
}

#[test]
fn stop_string_at_the_last_token_is_a_stop() {
    let (texts, finish) = accept(&mut output(&["b"], 2), &[(1, b"a"), (2, b"xb")]);
    assert_eq!(texts, ["a", "x"]);
    assert_eq!(finish, end(FinishReason::Stop, Some("b"), ""));
}

#[test]
fn replacement_character_can_complete_a_stop_string() {
    let (texts, finish) = accept(&mut output(&["a\u{fffd}"], 2), &[(1, b"b"), (2, b"a\xf0")]);
    assert_eq!(texts, ["b", ""]);
    assert_eq!(finish, end(FinishReason::Stop, Some("a\u{fffd}"), ""));
}
