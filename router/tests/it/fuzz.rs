//! Whatever bytes arrive, the parser answers with a request or an error of bounded size.

use router::BODY_BYTES_MAX;
use router::parse::{CHOICES_MAX, LOGIT_BIAS_MAX, PROMPTS_MAX, ParseError, chat, completion};
use serde_json::json;

/// Inputs of each kind.
const CASES: usize = 100_000;
/// Longest message: two fields and some quoted text.
const MESSAGE_BYTES_MAX: usize = 1024;

/// splitmix64: the same bytes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn check_error(error: &ParseError) {
    assert!(error.to_string().len() <= MESSAGE_BYTES_MAX, "{error}");
}

/// Parses both ways; true when at least one succeeds.
fn check(body: &[u8]) -> bool {
    let chat = chat(body).map(|valid| {
        assert!((1..=CHOICES_MAX).contains(&valid.options.choices));
        assert!(valid.options.sampling.logit_bias.len() <= LOGIT_BIAS_MAX);
        assert!(valid.options.sampling.temperature.is_finite());
        assert!(valid.options.sampling.top_p > 0.0);
    });
    let completion = completion(body).map(|valid| {
        assert!((1..=PROMPTS_MAX).contains(&valid.prompts.len()));
    });
    for error in [chat.as_ref().err(), completion.as_ref().err()].into_iter().flatten() {
        check_error(error);
    }
    chat.is_ok() || completion.is_ok()
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(1);
    for _ in 0..CASES {
        let length = random.below(64);
        let body: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        check(&body);
    }
}

#[test]
fn mutated_bodies_never_panic() {
    let valid = [
        json!({"model": "m", "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": null, "reasoning_content": "r"},
        ], "stream": true, "stream_options": {"include_usage": true}, "n": 2, "seed": -9}),
        json!({"model": "m", "messages": [{"role": "user", "content": "é🦀"}], "temperature": 0.5,
            "top_p": 1e-3, "logprobs": true, "top_logprobs": 3, "stop": ["a", "b"],
            "logit_bias": {"5": -100, "6": 1.5}, "max_tokens": 10}),
        json!({"model": "m", "prompt": [[1, 2], [3]], "logprobs": 2, "best_of": 1, "stop": "x",
            "presence_penalty": -2, "top_k": -1, "min_p": 0.1, "stop_token_ids": [1]}),
    ];
    let valid: Vec<Vec<u8>> = valid.iter().map(|body| body.to_string().into_bytes()).collect();
    assert!(valid.iter().all(|body| check(body)), "they are valid before");
    let tokens: [&[u8]; 20] = [
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"[",
        b"]",
        b"{",
        b"}",
        b"\"",
        b",",
        b":",
        b"\\u0000",
        b"\\ud800",
        b"18446744073709551616",
        b"-9223372036854775808",
        b"0.5",
        b"\"\"",
        b"\xff",
        b"1e-50",
        b"99999999999999999999e20",
    ];
    let mut random = Random(2);
    let mut accepted = 0;
    for _ in 0..CASES {
        let mut body = valid[random.below(valid.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut body, &tokens, &mut random);
        }
        accepted += usize::from(check(&body));
    }
    assert!(accepted > CASES / 100, "some mutations must stay valid, or the rest is not reached");
}

fn mutate(body: &mut Vec<u8>, tokens: &[&[u8]], random: &mut Random) {
    let at = random.below(body.len().max(1)).min(body.len());
    match random.below(4) {
        0 if at < body.len() => body[at] = random.next() as u8,
        1 => {
            let end = (at + random.below(8)).min(body.len());
            body.drain(at..end);
        }
        2 => {
            let end = (at + random.below(16)).min(body.len());
            let copy = body[at..end].to_vec();
            body.splice(at..at, copy);
        }
        _ => {
            let token = tokens[random.below(tokens.len())];
            let end = (at + random.below(4)).min(body.len());
            body.splice(at..end, token.iter().copied());
        }
    }
}

#[test]
fn deep_and_wide_bodies_are_refused_or_fit() {
    let deep = [b"[".repeat(BODY_BYTES_MAX), br#"{"a":"#.repeat(BODY_BYTES_MAX / 5)];
    for body in &deep {
        assert!(!check(body));
    }
    let wide = |item: &str, field: &str| {
        let items = vec![item; BODY_BYTES_MAX / 2 / (item.len() + 1)].join(",");
        format!(r#"{{"model":"m","{field}":[{items}]}}"#).into_bytes()
    };
    assert!(!check(&wide(r#""a""#, "prompt")));
    assert!(!check(&wide(r#"{"role":"user","content":"a"}"#, "messages")));
    assert!(!check(&wide(r#""a""#, "stop")));
    assert!(check(&wide("1", "prompt")), "a long prompt of token ids is the home's business");
}
