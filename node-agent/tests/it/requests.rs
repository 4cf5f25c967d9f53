use crate::cluster::{Cluster, endless_request, question_request, questions};
use proto::refusal::{CONTEXT_LENGTH_EXCEEDED, ERROR_CODE, ERROR_PARAM, INVALID_REQUEST};
use proto::v1::{
    AgentStatus, FinishReason, GenerateRequest, ReasoningState, StopConditions, TokenIds,
    generate_request::Input,
};
use tonic::{Code, Status};

fn metadata<'a>(status: &'a Status, key: &str) -> &'a str {
    status.metadata().get(key).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_stream_frees_the_sequence() {
    let cluster = Cluster::ready(2, 1).await;
    let agent = &cluster.agents[0];
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut answering = agent.generate(endless_request("Count the letters.")).await.unwrap();
        answering.read_tokens(1).await;
        streams.push(answering);
    }
    agent.status_when(|status| status.current.unwrap().sequences_running == 3).await;
    drop(streams);
    let status = agent.status_when(|status| status.current.unwrap().sequences_running == 0).await;
    assert_eq!(status.current.unwrap().kv_blocks_used, 0);
    let generated = status.current.unwrap().generated_tokens_total;
    assert!(generated < 3 * 400, "the sequences ran to the end: {generated} tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_says_what_it_is_and_ends_as_asked() {
    let cluster = Cluster::ready(1, 1).await;
    let agent = &cluster.agents[0];
    let question = &questions(1)[0];
    let whole = agent.ask(question).await;
    assert_eq!(whole.reasoning, i32::from(ReasoningState::Open));
    assert_eq!(whole.finish_reason, Some(FinishReason::Stop.into()));

    let ids = TokenIds { ids: whole.prompt_token_ids.clone() };
    let by_ids =
        GenerateRequest { input: Some(Input::PromptTokenIds(ids)), ..question_request(question) };
    let answer = agent.generate(by_ids).await.unwrap().finish().await;
    assert_eq!(answer.token_ids, whole.token_ids);

    let stop = StopConditions { max_tokens: Some(5), ..StopConditions::default() };
    let short = GenerateRequest { stop: Some(stop), ..question_request(question) };
    let answer = agent.generate(short).await.unwrap().finish().await;
    assert_eq!(answer.token_ids, whole.token_ids[..5]);
    assert_eq!(answer.finish_reason, Some(FinishReason::Length.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_prompt_is_found_in_the_cache() {
    let cluster = Cluster::ready(1, 1).await;
    let agent = &cluster.agents[0];
    let request = GenerateRequest {
        input: Some(Input::PromptTokenIds(TokenIds { ids: (100..200).collect() })),
        stop: Some(StopConditions { max_tokens: Some(5), ..StopConditions::default() }),
        ..question_request("")
    };
    let mut answers = Vec::new();
    let mut cached = Vec::new();
    for _ in 0..2 {
        let mut answering = agent.generate(request.clone()).await.unwrap();
        while answering.step().await.unwrap() {}
        cached.push(answering.cached_tokens);
        answers.push(answering.answer);
    }
    assert_eq!(answers[0], answers[1]);
    assert!(cached[0] == 0 && (64..100).contains(&cached[1]), "{cached:?}");
    // Reports come now and then, so the last one may be of the time before.
    let is_told = |status: &AgentStatus| {
        let load = status.current.unwrap_or_default();
        load.cached_tokens_total == u64::from(cached[1]) && load.kv_blocks_used == 0
    };
    agent.status_when(is_told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_by_name() {
    let cluster = Cluster::ready(1, 1).await;
    let agent = &cluster.agents[0];
    let refused = |code, param: &'static str, change: &dyn Fn(&mut GenerateRequest)| {
        let mut request = question_request("1 + 1 = ?");
        change(&mut request);
        async move {
            let error = agent.generate(request).await.err().unwrap();
            assert_eq!(error.code(), code, "{param}: {error}");
            assert_eq!(metadata(&error, ERROR_PARAM), param, "{error}");
            error
        }
    };
    let invalid = Code::InvalidArgument;
    let sampling = |change: fn(&mut proto::v1::SamplingParameters)| {
        move |request: &mut GenerateRequest| change(request.sampling.as_mut().unwrap())
    };
    refused(Code::NotFound, "", &|request| request.model = "gpt".into()).await;
    refused(invalid, "temperature", &sampling(|it| it.temperature = f32::NAN)).await;
    refused(invalid, "temperature", &sampling(|it| it.temperature = -1.0)).await;
    refused(invalid, "top_p", &sampling(|it| it.top_p = 0.0)).await;
    refused(invalid, "top_p", &sampling(|it| it.top_p = f32::INFINITY)).await;
    refused(invalid, "min_p", &sampling(|it| it.min_p = 2.0)).await;
    refused(invalid, "repetition_penalty", &sampling(|it| it.repetition_penalty = 0.0)).await;
    refused(invalid, "presence_penalty", &sampling(|it| it.presence_penalty = f32::NAN)).await;
    refused(invalid, "logit_bias", &sampling(|it| it.logit_bias = [(9_999, 1.0)].into())).await;
    refused(invalid, "top_logprobs", &sampling(|it| it.top_logprobs = Some(9_999))).await;
    refused(invalid, "max_tokens", &|request| {
        request.stop.as_mut().unwrap().max_tokens = Some(0);
    })
    .await;
    refused(invalid, "stop", &|request| {
        request.stop.as_mut().unwrap().stop_strings = vec![String::new()];
    })
    .await;
    refused(invalid, "messages", &|request| request.input = None).await;
    refused(invalid, "messages", &|request| {
        if let Some(Input::Chat(chat)) = &mut request.input {
            chat.messages_json = "[".into();
        }
    })
    .await;
    let empty = |request: &mut GenerateRequest| request.input = Some(Input::Text(String::new()));
    let error = refused(invalid, "prompt", &empty).await;
    assert_eq!(metadata(&error, ERROR_CODE), INVALID_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_too_long_names_both_numbers() {
    let cluster = Cluster::ready(1, 1).await;
    let ids = TokenIds { ids: vec![5; 700] };
    let request =
        GenerateRequest { input: Some(Input::PromptTokenIds(ids)), ..question_request("") };
    let error = cluster.agents[0].generate(request).await.err().unwrap();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert_eq!(metadata(&error, ERROR_CODE), CONTEXT_LENGTH_EXCEEDED);
    assert!(error.message().contains("700") && error.message().contains("512"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_resource_exhausted() {
    let cluster = Cluster::idle(1, 1);
    let agent = &cluster.agents[0];
    let mut assignment = cluster.assignment(agent, 1);
    let settings = assignment.settings.as_mut().unwrap();
    (settings.sequences_max, settings.queue_max) = (1, 1);
    agent.assign(assignment).await.unwrap();
    agent.ready(1).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(agent.generate(endless_request("Count the letters.")).await.unwrap());
    }
    let error = agent.generate(endless_request("Count the letters.")).await.err().unwrap();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
}
