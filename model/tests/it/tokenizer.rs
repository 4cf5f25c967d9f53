//! The tokeniser of the embedded model, small ones of other families, and the detokeniser.

use crate::random::Random;
use model::detokenizer::Detokenizer;
use model::tokenizer::{Tokenizer, TokenizerError};
use std::path::{Path, PathBuf};

fn tiny_r1() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-r1")
}

fn open() -> Tokenizer {
    Tokenizer::open(&tiny_r1()).unwrap()
}

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut detokenizer = Detokenizer::new();
    let mut text = String::new();
    for id in ids {
        text += &detokenizer.push(&tokenizer.token_bytes(*id));
    }
    text + &detokenizer.finish()
}

#[test]
fn special_tokens_are_recognised_and_have_no_text() {
    let tokenizer = open();
    let prompt = "<｜begin▁of▁sentence｜><｜User｜>1<｜Assistant｜><think>\n";
    let ids = tokenizer.encode(prompt).unwrap();
    assert_eq!(ids.first(), Some(&0));
    assert_eq!(ids.get(1), Some(&3));
    assert_eq!(ids.get(3..5), Some(&[4, 1022][..]));
    assert_eq!(stream(&tokenizer, &ids), "1<think>\n");
    assert!(tokenizer.is_special(1) && !tokenizer.is_special(1022) && !tokenizer.is_special(9999));
    assert_eq!(tokenizer.token_id("</think>"), Some(1023));
    assert_eq!(tokenizer.token_id("no such token"), None);
    assert_eq!(tokenizer.vocab_size(), 1024);
    assert_eq!(tokenizer.token_bytes(u32::MAX), Vec::<u8>::new());
}

#[test]
fn no_token_is_added() {
    let tokenizer = open();
    assert_eq!(tokenizer.encode("").unwrap(), Vec::<u32>::new());
    let ids = tokenizer.encode("What is 12 + 7?").unwrap();
    assert!(ids.iter().all(|id| !tokenizer.is_special(*id)), "{ids:?}");
}

#[test]
fn evaluation_answers_come_back_as_they_were() {
    let tokenizer = open();
    let content = std::fs::read_to_string(tiny_r1().join("eval.jsonl")).unwrap();
    let mut count = 0;
    for line in content.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        for field in ["question", "answer", "greedy"] {
            let text = entry[field].as_str().unwrap();
            assert_eq!(stream(&tokenizer, &tokenizer.encode(text).unwrap()), text);
            count += 1;
        }
    }
    assert_eq!(count, 1500);
}

#[test]
fn characters_are_never_split() {
    let tokenizer = open();
    for text in
        ["👨‍👩‍👧‍👦 family 🌏!", "Đặng Thị Hồng ăn phở ở Đà Nẵng", "日本語 और हिन्दी", "a\u{0301}é\u{fffd}"]
    {
        let ids = tokenizer.encode(text).unwrap();
        assert!(ids.len() > text.chars().count() / 2, "{ids:?}");
        assert_eq!(stream(&tokenizer, &ids), text);

        let mut detokenizer = Detokenizer::new();
        let mut shown = String::new();
        for byte in text.as_bytes() {
            let piece = detokenizer.push(&[*byte]);
            assert!(piece.chars().count() <= 1, "{piece:?}");
            shown += &piece;
            assert!(text.starts_with(&shown), "{shown:?}");
        }
        assert!(!detokenizer.is_mid_character());
        assert_eq!(shown + &detokenizer.finish(), text);
    }
}

#[test]
fn broken_bytes_become_replacement_characters() {
    // What Python's bytes.decode("utf-8", errors="replace") gives.
    let cases: [(&[u8], &str); 8] = [
        (b"a\xffb", "a\u{fffd}b"),
        (b"\xe2\x82", "\u{fffd}"),
        (b"\xe2\x82A", "\u{fffd}A"),
        (b"\xf0\x9f\x98", "\u{fffd}"),
        (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        (b"\xc0\xaf", "\u{fffd}\u{fffd}"),
        (b"\xf0\x9f\xf0\x9f\x98\x80", "\u{fffd}😀"),
        (b"\xe2\xe2\x82\xac", "\u{fffd}€"),
    ];
    for (bytes, expected) in cases {
        for cut in 0..=bytes.len() {
            let mut detokenizer = Detokenizer::new();
            let (left, right) = bytes.split_at(cut);
            let shown = detokenizer.push(left) + &detokenizer.push(right) + &detokenizer.finish();
            assert_eq!(shown, expected, "{bytes:?} cut at {cut}");
        }
    }
}

#[test]
fn any_cut_of_any_bytes_decodes_like_the_whole() {
    let mut random = Random(1);
    let alphabet = [0x00, b'a', 0x80, 0xbf, 0xc3, 0xa9, 0xe2, 0x82, 0xed, 0xf0, 0x9f, 0xf4, 0xff];
    for _ in 0..100_000 {
        let bytes: Vec<u8> = (0..random.below(12)).map(|_| *random.pick(&alphabet)).collect();
        let mut detokenizer = Detokenizer::new();
        let mut shown = String::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + random.below(rest.len()));
            shown += &detokenizer.push(piece);
            rest = after;
        }
        assert_eq!(shown + &detokenizer.finish(), String::from_utf8_lossy(&bytes), "{bytes:?}");
    }
}

#[test]
fn hostile_texts_are_tokenised_in_bounded_time() {
    let tokenizer = open();
    let mut random = Random(2);
    let pieces = [
        "<｜User｜>",
        "<think>",
        "｜",
        "▁",
        " ",
        "\n",
        "\u{0}",
        "é",
        "😀",
        "9",
        "a",
        "\u{202e}",
        "ﷺ",
    ];
    for _ in 0..20_000 {
        let text: String = (0..random.below(20)).map(|_| *random.pick(&pieces)).collect();
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(stream(&tokenizer, &ids), text.replace("<｜User｜>", ""));
    }
    for piece in ["a", " ", "\n", "😀", "１", "ab "] {
        let text = piece.repeat(200_000);
        assert_eq!(stream(&tokenizer, &tokenizer.encode(&text).unwrap()), text);
    }
}

const SENTENCEPIECE: &str = r#"{
  "version": "1.0", "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
  "padding": null, "post_processor": null,
  "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
  "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
  "pre_tokenizer": null,
  "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
  "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
    "vocab": {"<s>": 0, "▁": 1, "h": 2, "i": 3, "hi": 4, "▁hi": 5, "<0xC3>": 6, "<0xA9>": 7}, "merges": ["h i", "▁ hi"]}
}"#;

#[test]
fn byte_fallback_and_spaces_decode() {
    let tokenizer = Tokenizer::from_json(SENTENCEPIECE.as_bytes(), Path::new("t")).unwrap();
    let ids = tokenizer.encode("<s>hi hié hi").unwrap();
    assert_eq!(ids, [0, 5, 5, 6, 7, 5], "the truncation in the file is not applied");
    assert_eq!(stream(&tokenizer, &ids), " hi hié hi");
    assert_eq!(tokenizer.token_bytes(6), [0xC3]);
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let fail = |from: &str, to: &str| {
        let content = SENTENCEPIECE.replace(from, to);
        assert_ne!(content, SENTENCEPIECE);
        Tokenizer::from_json(content.as_bytes(), Path::new("dir/tokenizer.json")).unwrap_err()
    };
    let error = fail(
        r#"{"type": "ByteFallback"}"#,
        r#"{"type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": true}"#,
    );
    assert!(matches!(error, TokenizerError::Decoder { .. }), "{error}");
    assert!(
        error.to_string().starts_with("dir/tokenizer.json: decoder CTC is not supported"),
        "{error}"
    );
    let error = fail(r#""<0xA9>": 7"#, r#""<0xA9>": 4000000000"#);
    assert!(error.to_string().contains("token id 4000000000 is above"), "{error}");
    let error = fail(r#""type": "BPE""#, r#""type": "Magic""#);
    assert!(matches!(error, TokenizerError::Malformed { .. }), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let error = Tokenizer::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}

#[test]
fn mutated_files_are_refused_or_work() {
    let mut random = Random(3);
    let alphabet = b"\"{}[],:0129ntf.-<>x \\\xe2\x96\x81";
    for _ in 0..20_000 {
        let mut content = SENTENCEPIECE.as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(content.len());
            match random.below(3) {
                0 => content[at] = *random.pick(alphabet),
                1 => content.truncate(at.max(1)),
                _ => content.insert(at, *random.pick(alphabet)),
            }
        }
        if let Ok(tokenizer) = Tokenizer::from_json(&content, Path::new("t")) {
            let ids = tokenizer.encode("<s>hi é 9").unwrap_or_default();
            stream(&tokenizer, &ids);
        }
    }
}

#[test]
fn prompts_get_what_the_post_processor_adds() {
    let text = std::fs::read_to_string(tiny_r1().join("tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let bos = "<｜begin▁of▁sentence｜>";
    json["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {bos: {"id": bos, "ids": [0], "tokens": [bos]}},
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    let with_bos = Tokenizer::open(folder.path()).unwrap();
    let plain = with_bos.encode("1 + 2").unwrap();
    assert_eq!(with_bos.encode_prompt("1 + 2").unwrap(), [&[0], &plain[..]].concat());
    assert_eq!(open().encode_prompt("1 + 2").unwrap(), plain);
}
