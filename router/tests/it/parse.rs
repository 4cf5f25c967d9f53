//! What is accepted and what is refused, as tables.

use crate::world::{chat_body, completion_body, merged};
use router::parse::{
    CHOICES_MAX, Delivery, MESSAGES_MAX, PROMPTS_MAX, UsageChunk, ValidPrompt, chat, completion,
};
use serde_json::{Value, json};

fn chat_error(body: &Value) -> (String, &'static str, String) {
    let error = chat(body.to_string().as_bytes()).expect_err(&format!("{body} must be refused"));
    (error.param().unwrap_or("-").to_owned(), error.code(), error.to_string())
}

fn completion_error(body: &Value) -> (String, &'static str) {
    let error = completion(body.to_string().as_bytes()).expect_err(&body.to_string());
    (error.param().unwrap_or("-").to_owned(), error.code())
}

/// Fields, the param that the error names, and its code.
type Row = (Value, &'static str, &'static str);

fn check_refused(rows: &[Row]) {
    for (fields, param, code) in rows {
        let (found, found_code, message) = chat_error(&chat_body(fields.clone()));
        assert_eq!((found.as_str(), found_code), (*param, *code), "{fields}: {message}");
        assert!(message.contains(param), "{message}");
    }
}

#[test]
fn chat_refuses_messages() {
    check_refused(&[
        (json!({"model": null}), "model", "missing_required_parameter"),
        (json!({"model": 3}), "model", "invalid_type"),
        (json!({"messages": null}), "messages", "missing_required_parameter"),
        (json!({"messages": []}), "messages", "invalid_value"),
        (json!({"messages": "hi"}), "messages", "invalid_type"),
        (json!({"messages": ["hi"]}), "messages[0]", "invalid_type"),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role", "missing_required_parameter"),
        (json!({"messages": [{"role": "robot"}]}), "messages[0].role", "invalid_value"),
        (
            json!({"messages": [{"role": "tool", "content": "x"}]}),
            "messages[0].role",
            "unsupported_parameter",
        ),
        (
            json!({"messages": [{"role": "user"}]}),
            "messages[0].content",
            "missing_required_parameter",
        ),
        (
            json!({"messages": [{"role": "user", "content": 5}]}),
            "messages[0].content",
            "invalid_type",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0].type",
            "unsupported_parameter",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{}]}]}),
            "messages[0].tool_calls",
            "unsupported_parameter",
        ),
        (
            json!({"messages": vec![json!({"role": "user", "content": ""}); MESSAGES_MAX + 1]}),
            "messages",
            "array_above_max_length",
        ),
    ]);
}

#[test]
fn chat_refuses_sampling() {
    check_refused(&[
        (json!({"n": 0}), "n", "invalid_value"),
        (json!({"n": CHOICES_MAX + 1}), "n", "invalid_value"),
        (json!({"n": 1.5}), "n", "invalid_type"),
        (json!({"n": "1"}), "n", "invalid_type"),
        (json!({"temperature": 2.1}), "temperature", "invalid_value"),
        (json!({"temperature": -0.1}), "temperature", "invalid_value"),
        (json!({"temperature": "hot"}), "temperature", "invalid_type"),
        (json!({"top_p": 0}), "top_p", "invalid_value"),
        (json!({"top_p": 1e-60}), "top_p", "invalid_value"),
        (json!({"top_p": 1.01}), "top_p", "invalid_value"),
        (json!({"min_p": 1.1}), "min_p", "invalid_value"),
        (json!({"top_k": -2}), "top_k", "invalid_value"),
        (json!({"repetition_penalty": 0}), "repetition_penalty", "invalid_value"),
        (json!({"presence_penalty": 2.5}), "presence_penalty", "invalid_value"),
        (json!({"frequency_penalty": -2.5}), "frequency_penalty", "invalid_value"),
    ]);
}

#[test]
fn chat_refuses_lengths_and_flags() {
    check_refused(&[
        (json!({"max_tokens": 0}), "max_tokens", "invalid_value"),
        (json!({"max_completion_tokens": -1}), "max_completion_tokens", "invalid_value"),
        (json!({"max_tokens": 5, "max_completion_tokens": 6}), "max_tokens", "invalid_value"),
        (json!({"seed": 18_446_744_073_709_551_615_u64}), "seed", "invalid_value"),
        (json!({"seed": 0.5}), "seed", "invalid_type"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop", "array_above_max_length"),
        (json!({"stop": [""]}), "stop[0]", "invalid_value"),
        (json!({"stop": ""}), "stop", "invalid_value"),
        (json!({"stop": ["a", 1]}), "stop[1]", "invalid_type"),
        (json!({"stop": {}}), "stop", "invalid_type"),
        (json!({"stop_token_ids": vec![1; 17]}), "stop_token_ids", "array_above_max_length"),
        (json!({"stop_token_ids": [-1]}), "stop_token_ids[0]", "invalid_value"),
        (json!({"logit_bias": {"foo": 0}}), "logit_bias", "invalid_value"),
        (json!({"logit_bias": {"5": 101}}), "logit_bias.5", "invalid_value"),
        (json!({"logit_bias": [1]}), "logit_bias", "invalid_type"),
        (json!({"logprobs": 1}), "logprobs", "invalid_type"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs", "invalid_value"),
        (json!({"top_logprobs": 2}), "top_logprobs", "invalid_value"),
        (json!({"stream": "yes"}), "stream", "invalid_type"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options", "invalid_value"),
        (
            json!({"stream": true, "stream_options": {"include_usage": 1}}),
            "stream_options.include_usage",
            "invalid_type",
        ),
    ]);
}

#[test]
fn chat_refuses_what_comes_later() {
    check_refused(&[
        (json!({"chat_template_kwargs": []}), "chat_template_kwargs", "invalid_type"),
        (
            json!({"chat_template_kwargs": {"messages": []}}),
            "chat_template_kwargs",
            "invalid_value",
        ),
        (json!({"reasoning_effort": "huge"}), "reasoning_effort", "invalid_value"),
        (json!({"include_reasoning": "no"}), "include_reasoning", "invalid_type"),
        (json!({"tools": [{"type": "function"}]}), "tools", "unsupported_parameter"),
        (json!({"tool_choice": "required"}), "tool_choice", "unsupported_parameter"),
        (json!({"functions": [{}]}), "functions", "unsupported_parameter"),
        (
            json!({"response_format": {"type": "json_object"}}),
            "response_format",
            "unsupported_parameter",
        ),
        (json!({"modalities": ["text", "audio"]}), "modalities", "unsupported_parameter"),
        (json!({"audio": {"voice": "x"}}), "audio", "unsupported_parameter"),
        (json!({"prediction": {}}), "prediction", "unsupported_parameter"),
        (json!({"min_tokens": 3}), "min_tokens", "unsupported_parameter"),
        (json!({"guided_json": {}}), "guided_json", "unsupported_parameter"),
    ]);
}

#[test]
fn chat_accepts_what_clients_send() {
    for fields in [
        json!({"n": null, "temperature": null, "stop": null, "tools": null, "seed": null}),
        json!({"tools": [], "tool_choice": "none", "functions": [], "function_call": "auto"}),
        json!({"response_format": {"type": "text"}, "modalities": ["text"], "audio": null}),
        json!({"user": "u", "metadata": {}, "store": true, "service_tier": "auto"}),
        json!({"parallel_tool_calls": true, "safety_identifier": "x", "verbosity": "low"}),
        json!({"unknown_field": {"of": "the future"}}),
        json!({"n": 2.0, "max_tokens": 7.0, "top_k": -1, "min_tokens": 0}),
        json!({"max_tokens": 5, "max_completion_tokens": 5}),
        json!({"temperature": 0, "top_p": 1, "presence_penalty": -2, "frequency_penalty": 2}),
        json!({"logprobs": false, "top_logprobs": 0}),
        json!({"stream": false, "stream_options": null}),
        json!({"stream": true, "stream_options": {"include_obfuscation": false}}),
        json!({"messages": [{"role": "assistant", "content": null, "refusal": null,
            "annotations": [], "audio": null, "function_call": null, "tool_calls": []},
            {"role": "user", "content": ""}]}),
    ] {
        let body = chat_body(fields);
        assert!(chat(body.to_string().as_bytes()).is_ok(), "{body}: {:?}", chat_error(&body));
    }
}

#[test]
fn chat_options_arrive() {
    let body = chat_body(json!({
        "n": 3, "seed": i64::MIN, "temperature": 0.25, "top_p": 0.5, "top_k": 7, "min_p": 0.125,
        "repetition_penalty": 1.5, "presence_penalty": 1, "frequency_penalty": -1,
        "logit_bias": {"9": 4.5}, "logprobs": true, "max_completion_tokens": 11, "stop": "end",
        "stop_token_ids": [2, 3], "ignore_eos": true, "stream": true,
        "stream_options": {"include_usage": true}, "reasoning_effort": "low",
        "chat_template_kwargs": {"enable_thinking": false},
    }));
    let valid = chat(body.to_string().as_bytes()).unwrap();
    assert_eq!(valid.options.choices, 3);
    assert_eq!(valid.options.seed, Some(1 << 63));
    assert_eq!(valid.options.delivery, Delivery::Stream(UsageChunk::Included));
    let sampling = valid.options.sampling;
    assert_eq!((sampling.temperature, sampling.top_p, sampling.min_p), (0.25, 0.5, 0.125));
    assert_eq!((sampling.top_k, sampling.top_logprobs), (7, Some(0)));
    assert_eq!(sampling.repetition_penalty, 1.5);
    assert_eq!((sampling.presence_penalty, sampling.frequency_penalty), (1.0, -1.0));
    assert_eq!(sampling.logit_bias.into_iter().collect::<Vec<_>>(), [(9, 4.5)]);
    let stop = valid.options.stop;
    assert_eq!((stop.max_tokens, stop.stop_strings), (Some(11), vec!["end".to_owned()]));
    assert_eq!((stop.stop_token_ids, stop.end_of_sequence), (vec![2, 3], 1));
    let arguments: Value = serde_json::from_str(&valid.input.template_arguments_json).unwrap();
    assert_eq!(arguments, json!({"enable_thinking": false, "reasoning_effort": "low"}));
}

#[test]
fn messages_reach_the_template_in_its_own_terms() {
    let sent = json!([
        {"role": "developer", "content": "rules", "extra": 1},
        {"role": "user", "name": "ann", "content": [
            {"type": "text", "text": "a"}, {"type": "text", "text": "b"},
        ]},
        {"role": "assistant", "content": null, "reasoning_content": "hm", "refusal": null},
    ]);
    let valid = chat(chat_body(json!({"messages": sent})).to_string().as_bytes()).unwrap();
    let messages: Value = serde_json::from_str(&valid.input.messages_json).unwrap();
    let expected = json!([
        {"role": "system", "content": "rules"},
        {"role": "user", "name": "ann", "content": "a\nb"},
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
    ]);
    assert_eq!(messages, expected);
}

#[test]
fn completions_take_four_shapes_of_prompt() {
    let text = |text: &str| ValidPrompt::Text(text.to_owned());
    for (prompt, expected) in [
        (json!("a"), vec![text("a")]),
        (json!(["a", "b"]), vec![text("a"), text("b")]),
        (json!([1, 2]), vec![ValidPrompt::Tokens(vec![1, 2])]),
        (json!([[1], [2, 3]]), vec![ValidPrompt::Tokens(vec![1]), ValidPrompt::Tokens(vec![2, 3])]),
    ] {
        let body = completion_body(json!({"prompt": prompt}));
        let valid = completion(body.to_string().as_bytes()).unwrap();
        assert_eq!(valid.prompts, expected);
    }
}

#[test]
fn completions_refuse_by_field_and_code() {
    for (fields, param, code) in [
        (json!({"prompt": null}), "prompt", "missing_required_parameter"),
        (json!({"prompt": 5}), "prompt", "invalid_type"),
        (json!({"prompt": ""}), "prompt", "invalid_value"),
        (json!({"prompt": []}), "prompt", "invalid_value"),
        (json!({"prompt": [[]]}), "prompt[0]", "invalid_value"),
        (json!({"prompt": ["a", 1]}), "prompt[1]", "invalid_type"),
        (json!({"prompt": [1, "a"]}), "prompt[1]", "invalid_type"),
        (json!({"prompt": [-1]}), "prompt", "invalid_value"),
        (json!({"prompt": [1.5]}), "prompt", "invalid_type"),
        (json!({"prompt": [4_294_967_296_u64]}), "prompt", "invalid_value"),
        (json!({"prompt": [null]}), "prompt[0]", "invalid_type"),
        (json!({"prompt": vec!["a"; PROMPTS_MAX + 1]}), "prompt", "array_above_max_length"),
        (json!({"logprobs": 6}), "logprobs", "invalid_value"),
        (json!({"logprobs": true}), "logprobs", "invalid_type"),
        (json!({"best_of": 2}), "best_of", "unsupported_parameter"),
        (json!({"suffix": "x"}), "suffix", "unsupported_parameter"),
        (json!({"echo": true}), "echo", "unsupported_parameter"),
    ] {
        let body = completion_body(fields);
        assert_eq!(completion_error(&body), (param.to_owned(), code), "{body}");
    }
    let fine = completion_body(json!({"best_of": 2, "n": 2, "suffix": "", "echo": false}));
    assert!(completion(fine.to_string().as_bytes()).is_ok());
}

#[test]
fn bodies_that_are_no_objects() {
    for body in ["", "{", "[]", "\"x\"", "null", "{\"model\": 1e999}"] {
        let error = chat(body.as_bytes()).unwrap_err();
        assert_eq!((error.param(), error.code()), (None, "invalid_json"), "{body}");
    }
    let long = "x".repeat(100_000);
    let body = merged(chat_body(json!({})), json!({"temperature": long}));
    assert!(chat_error(&body).2.len() < 200, "messages do not repeat long input");
}
