//! The shapes of answers that go well.

use crate::agent::{Act, Answer, ScriptedAgent};
use crate::world::{
    MODEL, Streamed, World, chat_body, completion_body, keys, patience, reasoning_answer,
};
use proto::v1::ReasoningState;
use proto::v1::generate_request::Input;
use serde_json::{Value, json};
use std::time::Duration;

async fn world() -> (World, ScriptedAgent) {
    let agent = ScriptedAgent::start("a", reasoning_answer(), vec![]);
    (World::with(patience(), &[&agent]).await, agent)
}

#[tokio::test]
async fn a_chat_answer_has_openais_shape() {
    let (world, mut agent) = world().await;
    let mut answer = world.chat(&chat_body(json!({"user": "u", "metadata": {"a": 1}}))).await;
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
    answer["id"] = json!("");
    answer["created"] = json!(0);
    let message = json!({
        "role": "assistant", "content": "four 🦀", "reasoning_content": "two plus", "refusal": null
    });
    let usage = json!({
        "prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    });
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
    let expected = json!({
        "id": "", "object": "chat.completion", "created": 0, "model": MODEL,
        "system_fingerprint": null, "choices": [choice], "usage": usage,
    });
    assert_eq!(answer, expected);
    let Some(Input::Chat(input)) = agent.request().await.input else { panic!("no chat") };
    let messages: Value = serde_json::from_str(&input.messages_json).unwrap();
    assert_eq!(messages, json!([{"role": "user", "content": "hi"}]));
    assert_eq!((input.tools_json.as_str(), input.template_arguments_json.as_str()), ("", ""));
}

#[tokio::test]
async fn a_chat_stream_has_openais_shape() {
    let (world, _agent) = world().await;
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let streamed = world.chat_stream(&chat_body(options)).await;
    assert!(streamed.done);
    let (last, chunks) = streamed.chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens_details"]["reasoning_tokens"], 3);
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    let expected = [
        json!({"role": "assistant", "content": ""}),
        json!({"reasoning_content": "two"}),
        json!({"reasoning_content": " plus"}),
        json!({"content": "fo"}),
        json!({"content": "ur"}),
        json!({"content": " 🦀"}),
        json!({}),
    ];
    assert_eq!(deltas, expected.iter().collect::<Vec<_>>());
    for chunk in &streamed.chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], last["id"]);
        assert_eq!(chunk["created"], last["created"]);
        assert_eq!(chunk["model"], MODEL);
    }
    for chunk in chunks {
        assert_eq!(chunk.get("usage"), Some(&Value::Null));
        assert_eq!(
            keys(&chunk["choices"][0]),
            ["delta", "finish_reason", "index", "logprobs"],
            "no tool_calls and nothing else"
        );
    }
    assert_eq!(streamed.finish_reasons(0), ["stop"]);
}

#[tokio::test]
async fn without_include_usage_there_is_no_usage_key() {
    let (world, _agent) = world().await;
    let streamed = world.chat_stream(&chat_body(json!({"stream": true}))).await;
    assert!(streamed.chunks.iter().all(|chunk| chunk.get("usage").is_none()));
    assert!(streamed.chunks.iter().all(|chunk| !chunk["choices"].as_array().unwrap().is_empty()));
}

#[tokio::test]
async fn streamed_and_whole_answers_are_equal() {
    let (world, _agent) = world().await;
    let options = json!({"n": 3, "logprobs": true, "top_logprobs": 2, "max_tokens": 5});
    let whole = world.chat(&chat_body(options.clone())).await;
    let mut body = chat_body(options);
    body["stream"] = json!(true);
    let streamed = world.chat_stream(&body).await;
    for index in 0..3 {
        let choice = &whole["choices"][index];
        assert_eq!(choice["message"]["content"], streamed.text(index, "content"));
        assert_eq!(
            choice["message"]["reasoning_content"],
            streamed.text(index, "reasoning_content")
        );
        assert_eq!(streamed.finish_reasons(index), [choice["finish_reason"].as_str().unwrap()]);
        let parts =
            streamed.choices(index).filter_map(|part| part["logprobs"]["content"].as_array());
        let logprobs: Vec<Value> = parts.flatten().cloned().collect();
        assert_eq!(choice["logprobs"]["content"], json!(logprobs));
        assert_eq!(logprobs.len(), 5);
    }
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    let expected = json!({
        "token": "two", "logprob": -0.5, "bytes": [116, 119, 111],
        "top_logprobs": [
            {"token": "two", "logprob": -0.5, "bytes": [116, 119, 111]},
            {"token": "two", "logprob": -1.5, "bytes": [116, 119, 111]},
        ],
    });
    assert_eq!(whole["choices"][0]["logprobs"]["content"][0], expected);
}

#[tokio::test]
async fn tokens_that_come_at_once_count_and_read_the_same() {
    let agent = ScriptedAgent::start("a", reasoning_answer(), vec![Act::ServeAtOnce; 2]);
    let world = World::with(patience(), &[&agent]).await;
    let answer = world.chat(&chat_body(json!({}))).await;
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 3);
    assert_eq!(answer["choices"][0]["message"]["content"], "four 🦀");
    let streamed = world.chat_stream(&chat_body(json!({"stream": true}))).await;
    let deltas: Vec<&Value> = streamed.choices(0).map(|choice| &choice["delta"]).collect();
    let expected = [
        json!({"role": "assistant", "content": ""}),
        json!({"reasoning_content": "two plus"}),
        json!({"content": "four 🦀"}),
        json!({}),
    ];
    assert_eq!(deltas, expected.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn hidden_reasoning_still_counts() {
    let (world, _agent) = world().await;
    let answer = world.chat(&chat_body(json!({"include_reasoning": false}))).await;
    assert_eq!(keys(&answer["choices"][0]["message"]), ["content", "refusal", "role"]);
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 3);
}

#[tokio::test]
async fn an_answer_that_never_leaves_reasoning_has_empty_content() {
    let tokens = vec![(1, "hm"), (2, " </thi")];
    let answer = Answer { tokens, reasoning: ReasoningState::Open };
    let agent = ScriptedAgent::start("a", answer, vec![]);
    let world = World::with(patience(), &[&agent]).await;
    let answer = world.chat(&chat_body(json!({}))).await;
    let message = &answer["choices"][0]["message"];
    assert_eq!(
        (&message["content"], &message["reasoning_content"]),
        (&json!(""), &json!("hm </thi"))
    );
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 2);
}

#[tokio::test]
async fn an_answer_without_reasoning_has_no_such_key() {
    let answer = Answer { tokens: vec![(1, "plain")], reasoning: ReasoningState::Closed };
    let agent = ScriptedAgent::start("a", answer, vec![]);
    let world = World::with(patience(), &[&agent]).await;
    let answer = world.chat(&chat_body(json!({}))).await;
    assert_eq!(keys(&answer["choices"][0]["message"]), ["content", "refusal", "role"]);
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
}

#[tokio::test]
async fn completions_answer_prompts_in_order_and_do_not_split() {
    let (world, mut agent) = world().await;
    let body = completion_body(json!({"prompt": [[7, 8], [9]], "n": 2, "seed": 5, "logprobs": 1}));
    let response = world.post("/v1/completions", &body).await;
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["object"], "text_completion");
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        assert_eq!(choice["text"], "two plus</think>\n\nfour 🦀");
        assert_eq!(choice["finish_reason"], "stop");
    }
    let expected = json!({
        "tokens": ["two", " plus", "</think>", "\n\nfo", "ur", " 🦀"],
        "token_logprobs": [-0.5, -0.5, -0.5, -0.5, -0.5, -0.5],
        "top_logprobs": [
            {"two": -0.5}, {" plus": -0.5}, {"</think>": -0.5}, {"\n\nfo": -0.5}, {"ur": -0.5},
            {" 🦀": -0.5},
        ],
        "text_offset": [0, 3, 8, 16, 20, 22],
    });
    assert_eq!(choices[3]["logprobs"], expected);
    assert_eq!(answer["usage"]["prompt_tokens"], 3, "each prompt once");
    assert_eq!(answer["usage"]["completion_tokens"], 24);

    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..4 {
        let request = agent.request().await;
        let Some(Input::PromptTokenIds(prompt)) = request.input else { panic!("no ids") };
        let number = request.request_id.rsplit('-').next().unwrap().to_owned();
        seen.insert(number, (prompt.ids, request.sampling.unwrap().seed));
    }
    assert_eq!((&seen["0"].0, &seen["1"].0), (&vec![7, 8], &vec![7, 8]));
    assert_eq!((&seen["2"].0, &seen["3"].0), (&vec![9], &vec![9]));
    assert_eq!((seen["0"].1, seen["2"].1), (5, 5), "choice 0 has the request's seed");
    assert_eq!(seen["1"].1, seen["3"].1);
    assert_ne!(seen["1"].1, 5);
}

#[tokio::test]
async fn a_completion_stream_has_openais_shape() {
    let (world, _agent) = world().await;
    let options = json!({"stream": true, "logprobs": 0, "stream_options": {"include_usage": true}});
    let response = world.post("/v1/completions", &completion_body(options)).await;
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    assert!(response.headers().contains_key("x-request-id"));
    let streamed = Streamed::parse(&response.text().await.unwrap());
    assert!(streamed.done);
    let texts: String = streamed.choices(0).map(|part| part["text"].as_str().unwrap()).collect();
    assert_eq!(texts, "two plus</think>\n\nfour 🦀");
    let parts = streamed.choices(0).filter_map(|part| part["logprobs"]["text_offset"].as_array());
    let offsets: Vec<Value> = parts.flatten().cloned().collect();
    assert_eq!(json!(offsets), json!([0, 3, 8, 16, 20, 22]));
    assert_eq!(streamed.finish_reasons(0), ["stop"]);
    let usage = &streamed.chunks.last().unwrap()["usage"];
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 0);
}

#[tokio::test]
async fn a_random_seed_is_drawn_for_each_request() {
    let (world, mut agent) = world().await;
    let mut seeds = std::collections::BTreeSet::new();
    for _ in 0..4 {
        world.chat(&chat_body(json!({}))).await;
        seeds.insert(agent.request().await.sampling.unwrap().seed);
    }
    assert_eq!(seeds.len(), 4);
}

#[tokio::test]
async fn a_waiting_stream_is_kept_alive() {
    let patience = router::Patience {
        response_start: Duration::ZERO,
        keep_alive: Duration::from_millis(20),
        ..patience()
    };
    let agent = ScriptedAgent::start("a", reasoning_answer(), vec![Act::Hang]);
    let world = World::with(patience, &[&agent]).await;
    let mut response =
        world.post("/v1/chat/completions", &chat_body(json!({"stream": true}))).await;
    assert_eq!(response.status(), 200);
    for _ in 0..3 {
        assert_eq!(response.chunk().await.unwrap().unwrap(), ": keep-alive\n\n");
    }
}

#[tokio::test]
async fn models_health_and_metrics() {
    let (world, _agent) = world().await;
    let models: Value = world.get("/v1/models").await.json().await.unwrap();
    assert_eq!(models["object"], "list");
    assert_eq!(models["data"][0]["id"], MODEL);
    assert_eq!(models["data"][0]["owned_by"], "boyle");
    assert_eq!(models["data"][0]["max_model_len"], 4096);
    let model: Value = world.get(&format!("/v1/models/{MODEL}")).await.json().await.unwrap();
    assert_eq!(model, models["data"][0]);
    assert_eq!(world.get("/health").await.status(), 200);
    world.chat(&chat_body(json!({}))).await;
    world.post("/v1/chat/completions", &json!({})).await;
    let text = world.get("/metrics").await.text().await.unwrap();
    for line in [
        "boyle_router_requests_total{code=\"200\",endpoint=\"chat_completions\"} 1",
        "boyle_router_requests_total{code=\"400\",endpoint=\"chat_completions\"} 1",
        "boyle_router_requests_in_flight 0",
        "boyle_router_prompt_tokens_total 3",
        "boyle_router_generation_tokens_total 6",
        "boyle_router_reasoning_tokens_total 3",
        "boyle_router_time_to_first_token_seconds_count 1",
        "boyle_router_inter_token_latency_seconds_count 5",
        "boyle_router_homes_ready 1",
        "boyle_router_resumes_total 0",
        "boyle_router_choices_finished_total{finished_reason=\"stop\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
