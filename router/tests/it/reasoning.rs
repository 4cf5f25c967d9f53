//! The splitter: what it splits, and that the cuts between deltas do not matter.

use proptest::prelude::*;
use proto::v1::ReasoningState::{self, Closed, Open};
use router::reasoning::{Piece, Splitter};

/// Reasoning and content of the whole text.
fn split<'a>(
    prompt: ReasoningState,
    deltas: impl IntoIterator<Item = &'a str>,
) -> (String, String) {
    let mut splitter = Splitter::new(prompt);
    let mut pieces: Vec<Piece> =
        deltas.into_iter().flat_map(|delta| splitter.push(delta)).collect();
    pieces.extend(splitter.finish());
    let (mut reasoning, mut content) = (String::new(), String::new());
    for piece in pieces {
        match piece {
            Piece::Reasoning(text) => {
                assert!(content.is_empty(), "reasoning comes first");
                assert!(!text.is_empty());
                reasoning.push_str(&text);
            }
            Piece::Content(text) => {
                assert!(!text.is_empty());
                content.push_str(&text);
            }
        }
    }
    (reasoning, content)
}

#[test]
fn splits_as_r1_answers() {
    for (prompt, text, reasoning, content) in [
        (Open, "two and two\n</think>\n\nfour", "two and two\n", "four"),
        (Open, "</think>four", "", "four"),
        (Open, "\n</think>\n\nfour\n\n", "\n", "four\n\n"),
        (Open, "never closed", "never closed", ""),
        (Open, "cut off</thin", "cut off</thin", ""),
        (Open, "a < b</think>c </think> d", "a < b", "c </think> d"),
        (Open, "<<</think>x", "<<", "x"),
        (Open, "</</think>x", "</", "x"),
        (Open, "<think>\nagain</think>x", "again", "x"),
        (Open, "a<think>b</think>x", "a<think>b", "x"),
        (Open, "", "", ""),
        (Open, "  ", "  ", ""),
        (Closed, "plain", "", "plain"),
        (Closed, "plain </think> tag", "", "plain </think> tag"),
        (Closed, "<think>\nhm</think>\n\nx", "hm", "x"),
        (Closed, " \n<think>hm</think>x", "hm", "x"),
        (Closed, "<think>hm", "hm", ""),
        (Closed, "<thinking> is a word", "", "<thinking> is a word"),
        (Closed, "<thin", "", "<thin"),
        (Closed, " \n", "", " \n"),
        (Closed, "\nx<think>y</think>", "", "\nx<think>y</think>"),
        (Closed, "<think></think>\n", "", ""),
    ] {
        let expected = (reasoning.to_owned(), content.to_owned());
        assert_eq!(split(prompt, [text]), expected, "{prompt:?} {text:?}");
        let characters: Vec<String> = text.chars().map(String::from).collect();
        let found = split(prompt, characters.iter().map(String::as_str));
        assert_eq!(found, expected, "one by one: {prompt:?} {text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn cuts_do_not_matter(
        open in any::<bool>(),
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "<think>", "</think>", "<", "/", "think", ">", "\n", "\r", " ", "a", "é", "🦀",
            ]),
            0..24,
        ),
        lengths in prop::collection::vec(0_usize..5, 0..80),
    ) {
        let prompt = if open { Open } else { Closed };
        let text = parts.concat();
        let mut deltas = Vec::new();
        let mut rest = text.as_str();
        for length in lengths {
            let end = rest.char_indices().nth(length).map_or(rest.len(), |(at, _)| at);
            let (delta, after) = rest.split_at(end);
            deltas.push(delta);
            rest = after;
        }
        deltas.push(rest);
        let whole = split(prompt, [text.as_str()]);
        prop_assert_eq!(split(prompt, deltas), whole.clone());
        prop_assert!(!whole.1.starts_with('\n') || whole.0.is_empty());
        prop_assert!(!whole.0.contains("</think>"));
    }
}
