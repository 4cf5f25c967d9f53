//! A lost home in the middle of an answer: the client sees one whole answer and nothing else.

use crate::agent::{Act, CACHED, PROMPT, ScriptedAgent};
use crate::world::{MODEL, Streamed, WAIT, World, chat_body, patience, reasoning_answer};
use proto::v1::AgentPhase;
use proto::v1::generate_request::Input;
use serde_json::json;
use std::time::Duration;
use tonic::Status;

fn agent(id: &str, acts: Vec<Act>) -> ScriptedAgent {
    ScriptedAgent::start(id, reasoning_answer(), acts)
}

fn assert_whole(streamed: &Streamed, choice: usize) {
    assert!(streamed.done, "{streamed:?}");
    assert_eq!(streamed.text(choice, "reasoning_content"), "two plus");
    assert_eq!(streamed.text(choice, "content"), "four 🦀");
    assert_eq!(streamed.text(choice, "role"), "assistant");
    assert_eq!(streamed.finish_reasons(choice), ["stop"]);
}

/// The first agent plays the act; the second must be asked for exactly what is missing.
async fn check_continues(act: Act, emitted: usize) {
    let mut first = agent("a", vec![act]);
    let mut second = agent("b", vec![]);
    let mut world = World::with(patience(), &[&first, &second]).await;
    let options = json!({"stream": true, "seed": -7, "stream_options": {"include_usage": true}});
    let streamed = world.chat_stream(&chat_body(options)).await;
    assert_whole(&streamed, 0);
    let usage = &streamed.chunks.last().unwrap()["usage"];
    assert_eq!(usage["completion_tokens"], 6);
    assert_eq!(usage["prompt_tokens"], 3);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], CACHED, "the first home's");
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 3);

    let original = first.request().await;
    let replay = second.request().await;
    let Some(Input::PromptTokenIds(prompt)) = &replay.input else { panic!("{replay:?}") };
    assert_eq!(prompt.ids, PROMPT);
    assert_eq!(replay.emitted_token_ids, (1..=emitted as u32).collect::<Vec<_>>());
    assert_eq!(replay.sampling, original.sampling, "seed and all");
    assert_eq!(replay.sampling.unwrap().seed, (-7_i64).cast_unsigned());
    assert_eq!(replay.stop, original.stop);
    assert_eq!(replay.model, MODEL);
    assert_eq!(world.status().await.resumes_total, 1);
}

#[tokio::test]
async fn what_was_queued_on_a_lost_home_waits_for_room_on_another() {
    let full = || Act::Refuse(Status::resource_exhausted("queue full"));
    let lost = Act::BreakQueued(Status::unavailable("gone"));
    let first = agent("a", vec![lost, full()]);
    let second = agent("b", vec![full(), full()]);
    let world = World::with(patience(), &[&first, &second]).await;
    // A new request would be answered with 429 when both are full; this one was let in.
    assert_whole(&world.chat_stream(&chat_body(json!({"stream": true}))).await, 0);
}

#[tokio::test]
async fn continues_after_a_status_at_any_token() {
    for status in [Status::unavailable("draining"), Status::internal("broken")] {
        for after in 0..=6 {
            check_continues(Act::BreakAfter(after, status.clone()), after).await;
        }
    }
}

#[tokio::test]
async fn continues_after_an_early_end_at_any_token() {
    for after in 0..=6 {
        check_continues(Act::EndAfter(after), after).await;
    }
}

#[tokio::test]
async fn continues_after_a_kill() {
    let mut first = agent("a", vec![Act::HangAfter(4)]);
    let mut second = agent("b", vec![]);
    let world = World::with(patience(), &[&first, &second]).await;
    let body = chat_body(json!({"stream": true}));
    let mut response = world.post("/v1/chat/completions", &body).await;
    let mut text = String::new();
    while !text.contains("\"fo\"") {
        text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
    }
    first.kill();
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert_whole(&Streamed::parse(&text), 0);
    assert_eq!(second.request().await.emitted_token_ids, [1, 2, 3, 4]);
}

#[tokio::test]
async fn every_choice_continues_and_whole_answers_too() {
    let broken = Status::unavailable("gone");
    let acts = vec![Act::BreakAfter(1, broken.clone()), Act::BreakAfter(5, broken.clone())];
    let first = agent("a", acts.clone());
    let second = agent("b", acts);
    let mut world = World::with(patience(), &[&first, &second]).await;
    let answer = world.chat(&chat_body(json!({"n": 4, "logprobs": true}))).await;
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(choice["message"]["content"], "four 🦀");
        assert_eq!(choice["message"]["reasoning_content"], "two plus");
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        let tokens: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
        assert_eq!(tokens, "two plus</think>\n\nfour 🦀");
    }
    assert_eq!(answer["usage"]["completion_tokens"], 24);
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
    assert_eq!(world.status().await.resumes_total, 4);
}

#[tokio::test]
async fn the_only_home_is_asked_again() {
    let acts = vec![
        Act::BreakAfter(2, Status::unavailable("restart")),
        Act::Refuse(Status::unavailable("loading")),
        Act::EndAfter(1),
    ];
    let mut only = agent("a", acts);
    let world = World::with(patience(), &[&only]).await;
    assert_whole(&world.chat_stream(&chat_body(json!({"stream": true}))).await, 0);
    let mut emitted = Vec::new();
    for _ in 0..4 {
        emitted.push(only.request().await.emitted_token_ids);
    }
    assert_eq!(emitted, [vec![], vec![1, 2], vec![1, 2], vec![1, 2, 3]]);
}

#[tokio::test]
async fn before_the_prompt_is_accepted_the_original_is_sent_again() {
    let mut first = agent("a", vec![Act::Refuse(Status::unavailable("draining"))]);
    let mut second = agent("b", vec![]);
    let mut world = World::with(patience(), &[&first, &second]).await;
    assert_whole(&world.chat_stream(&chat_body(json!({"stream": true}))).await, 0);
    assert_eq!(first.request().await, second.request().await);
    assert_eq!(world.status().await.resumes_total, 0, "nothing was under way");
}

#[tokio::test]
async fn a_silent_home_without_status_is_left() {
    let patience = router::Patience { silence_without_status: Duration::ZERO, ..patience() };
    for act in [Act::HangAfter(2), Act::Hang] {
        let first = agent("a", vec![act]);
        let second = agent("b", vec![]);
        let world = World::with(patience, &[&first, &second]).await;
        let lose = async {
            let mut first = first;
            first.request().await;
            first.lose_status();
            first
        };
        let body = chat_body(json!({"stream": true}));
        let (streamed, mut first) = tokio::join!(world.chat_stream(&body), lose);
        assert_whole(&streamed, 0);
        first.cancelled().await;
    }
}

#[tokio::test]
async fn a_silent_home_that_failed_is_left() {
    let patience = router::Patience { silence_without_status: Duration::ZERO, ..patience() };
    let mut first = agent("a", vec![Act::HangAfter(2)]);
    let second = agent("b", vec![]);
    let world = World::with(patience, &[&first, &second]).await;
    let fail = async {
        first.request().await;
        first.set_status(AgentPhase::Failed, 0);
    };
    let body = chat_body(json!({"stream": true}));
    let (streamed, ()) = tokio::join!(world.chat_stream(&body), fail);
    assert_whole(&streamed, 0);
}

#[tokio::test]
async fn a_wedged_home_is_left_after_long_silence() {
    let silence = Duration::from_millis(300);
    let patience = router::Patience { silence_with_status: silence, ..patience() };
    let first = agent("a", vec![Act::HangAfter(2)]);
    let second = agent("b", vec![]);
    let world = World::with(patience, &[&first, &second]).await;
    let started = std::time::Instant::now();
    assert_whole(&world.chat_stream(&chat_body(json!({"stream": true}))).await, 0);
    assert!(started.elapsed() >= silence, "a living home is not left earlier");
}

#[tokio::test]
async fn a_request_is_held_until_a_home_is_ready() {
    let mut only = agent("a", vec![Act::BreakAfter(3, Status::unavailable("reloading"))]);
    let mut world = World::with(patience(), &[&only]).await;
    only.set_status(AgentPhase::Loading, 0);
    world.wait_for_ready(0).await;
    let body = chat_body(json!({"stream": true}));
    let url = world.url.clone();
    let request = world.http.post(format!("{url}/v1/chat/completions")).json(&body).send();
    let request = tokio::spawn(async move { request.await.unwrap().text().await.unwrap() });
    while world.status().await.requests_in_flight == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(only.requests_so_far(), 0);
    only.set_status(AgentPhase::Ready, 0);
    let text = tokio::time::timeout(WAIT, request).await.unwrap().unwrap();
    assert_whole(&Streamed::parse(&text), 0);
}

#[tokio::test]
async fn a_request_that_kills_every_home_is_given_up() {
    // The second is what an agent answers whose engine the sequence has killed, the third what a proxy may say.
    for broken in [
        Status::internal("crashed"),
        Status::unavailable("the engine stopped"),
        Status::resource_exhausted("full"),
    ] {
        let only = agent("a", vec![Act::BreakAfter(0, broken); 40]);
        let world = World::with(patience(), &[&only]).await;
        let response = world.post("/v1/chat/completions", &chat_body(json!({}))).await;
        assert_eq!(response.status(), 500);
        let body: serde_json::Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "generation_failed");
    }
}

#[tokio::test]
async fn after_the_hold_a_stream_ends_with_an_error_and_without_done() {
    let hold = Duration::from_millis(200);
    let patience = router::Patience { hold, ..patience() };
    let only = agent("a", vec![Act::HangAfter(2)]);
    let mut world = World::with(patience, &[&only]).await;
    let body = chat_body(json!({"stream": true}));
    let mut response = world.post("/v1/chat/completions", &body).await;
    let mut text = String::new();
    while !text.contains("plus") {
        text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
    }
    drop(only);
    while let Some(chunk) = response.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let streamed =
        Streamed::parse(&text.replace("data: {\"error\"", "data: {\"choices\":[],\"error\""));
    assert!(!streamed.done);
    let error = &streamed.chunks.last().unwrap()["error"];
    assert_eq!(error["type"], "server_error");
    assert_eq!(error["code"], "no_home_available");
    assert!(error["param"].is_null());
    assert_eq!(streamed.text(0, "reasoning_content"), "two plus");
    world.wait_for_ready(0).await;
}
