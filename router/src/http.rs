//! The HTTP routes: body in, admission, request built, answer out.

use crate::answer::{Format, Head, Job, answer};
use crate::assemble::Splitting;
use crate::chat::ChatFormat;
use crate::completions::{CompletionFormat, Sent};
use crate::config::{BODY_BYTES_MAX, BODY_WAIT, PARSES_MAX, RouterConfig};
use crate::errors::ApiError;
use crate::generation::{Choice, Context};
use crate::homes::{Homes, Served};
use crate::metrics::{Metrics, RequestRecord};
use crate::parse::{self, Options, ParseError, ValidPrompt};
use crate::seed;
use crate::serve::Stage;
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use proto::v1::generate_request::Input;
use proto::v1::{GenerateRequest, TokenIds};
use serde_json::json;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every route shares.
#[derive(Clone, Debug)]
pub struct Api {
    context: Context,
    /// One permit for each sequence in flight.
    sequences: Arc<Semaphore>,
    sequences_max: usize,
    parses: Arc<Semaphore>,
    stage: watch::Receiver<Stage>,
}

impl Api {
    pub fn new(
        config: &RouterConfig,
        homes: Arc<Homes>,
        metrics: Arc<Metrics>,
        stage: watch::Receiver<Stage>,
    ) -> Self {
        let (patience, held_max) = (config.patience, config.held_max);
        let sequences_max = config.sequences_max.min(Semaphore::MAX_PERMITS);
        Self {
            context: Context { homes, metrics, patience, held_max },
            sequences: Arc::new(Semaphore::new(sequences_max)),
            sequences_max,
            parses: Arc::new(Semaphore::new(PARSES_MAX)),
            stage,
        }
    }

    /// Room for that many more sequences.
    fn admit(&self, sequences: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let overloaded = ApiError::Overloaded { max: self.sequences_max };
        let Ok(count) = u32::try_from(sequences) else { return Err(overloaded) };
        Arc::clone(&self.sequences).try_acquire_many_owned(count).map_err(|_| overloaded)
    }

    /// The served model, if the request means it.
    fn served(&self, model: &str) -> Result<Served, ApiError> {
        let served = self.context.homes.served().ok_or(ApiError::NoModel)?;
        if served.model != model {
            let model = parse::quote(model);
            return Err(ApiError::ModelNotFound { model, served: served.model });
        }
        Ok(served)
    }

    /// Parses the body; only so many at once, and only as long as it takes.
    async fn parse<T>(
        &self,
        body: Bytes,
        parse: fn(&[u8]) -> Result<T, ParseError>,
    ) -> Result<T, ApiError> {
        let permit = self.parses.acquire().await;
        let parsed = parse(&body);
        drop(permit);
        Ok(parsed?)
    }
}

/// All routes.
pub fn routes(api: Api) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/health", get(health))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(map_response_with_state(api.clone(), part))
        .with_state(api)
}

async fn chat(State(api): State<Api>, request: Request) -> Response {
    let metrics = Arc::clone(&api.context.metrics);
    let mut record = Some(RequestRecord::start(metrics, "chat_completions"));
    let result = chat_answer(&api, request, &mut record).await;
    respond(result, record)
}

async fn completion(State(api): State<Api>, request: Request) -> Response {
    let metrics = Arc::clone(&api.context.metrics);
    let mut record = Some(RequestRecord::start(metrics, "completions"));
    let result = completion_answer(&api, request, &mut record).await;
    respond(result, record)
}

/// The record is still here when the request failed before its choices were started.
fn respond(result: Result<Response, ApiError>, record: Option<RequestRecord>) -> Response {
    if let (Err(error), Some(mut record)) = (&result, record) {
        record.set_code(error.status().as_u16());
    }
    result.into_response()
}

async fn chat_answer(
    api: &Api,
    request: Request,
    record: &mut Option<RequestRecord>,
) -> Result<Response, ApiError> {
    let permit = api.admit(1)?;
    let valid = api.parse(body(request).await?, parse::chat).await?;
    let format = ChatFormat {
        reasoning: valid.reasoning,
        logprobs: valid.options.sampling.top_logprobs.into(),
        held: vec![Vec::new(); valid.options.choices],
    };
    let order = Order {
        prefix: "chatcmpl",
        splitting: Splitting::Reasoning,
        options: valid.options,
        inputs: vec![Input::Chat(valid.input)],
        permit,
    };
    fulfil(api, order, format, record).await
}

async fn completion_answer(
    api: &Api,
    request: Request,
    record: &mut Option<RequestRecord>,
) -> Result<Response, ApiError> {
    let permit = api.admit(1)?;
    let valid = api.parse(body(request).await?, parse::completion).await?;
    let inputs = valid.prompts.into_iter().map(|prompt| match prompt {
        ValidPrompt::Text(text) => Input::Text(text),
        ValidPrompt::Tokens(ids) => Input::PromptTokenIds(TokenIds { ids }),
    });
    let inputs: Vec<Input> = inputs.collect();
    let format = CompletionFormat {
        logprobs: valid.options.sampling.top_logprobs.into(),
        sent: vec![Sent::default(); inputs.len() * valid.options.choices],
    };
    let order = Order {
        prefix: "cmpl",
        splitting: Splitting::Nothing,
        options: valid.options,
        inputs,
        permit,
    };
    fulfil(api, order, format, record).await
}

/// A parsed request of either endpoint.
struct Order {
    prefix: &'static str,
    splitting: Splitting,
    options: Options,
    inputs: Vec<Input>,
    /// For its first sequence.
    permit: OwnedSemaphorePermit,
}

async fn fulfil<F: Format>(
    api: &Api,
    order: Order,
    format: F,
    record: &mut Option<RequestRecord>,
) -> Result<Response, ApiError> {
    let served = api.served(&order.options.model)?;
    let mut permits = vec![order.permit];
    permits.push(api.admit(order.inputs.len() * order.options.choices - 1)?);
    let id = format!("{}-{}", order.prefix, uuid::Uuid::new_v4().simple());
    let choices = choices(api, &id, &order.options, order.inputs);
    let started = SystemTime::now().duration_since(UNIX_EPOCH);
    let job = Job {
        head: Head {
            id: id.clone(),
            created: started.map_or(0, |since| since.as_secs()),
            model: served.model,
        },
        format,
        splitting: order.splitting,
        choices_per_prompt: order.options.choices,
        patience: api.context.patience,
        record: record.take().unwrap_or_else(|| {
            RequestRecord::start(Arc::clone(&api.context.metrics), order.prefix)
        }),
        permits,
    };
    let mut response = answer(job, choices, order.options.delivery).await?;
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    Ok(response)
}

/// One sequence for each prompt and choice, prompts one after the other.
fn choices(api: &Api, id: &str, options: &Options, inputs: Vec<Input>) -> Vec<Choice> {
    let seed = options.seed.unwrap_or_else(seed::random);
    let mut choices = Vec::with_capacity(inputs.len() * options.choices);
    for input in inputs {
        for index in 0..options.choices {
            let mut sampling = options.sampling.clone();
            sampling.seed = seed::of_choice(seed, index);
            let request = GenerateRequest {
                request_id: format!("{id}-{}", choices.len()),
                model: options.model.clone(),
                input: Some(input.clone()),
                emitted_token_ids: Vec::new(),
                sampling: Some(sampling),
                stop: Some(options.stop.clone()),
            };
            choices.push(Choice::new(api.context.clone(), request));
        }
    }
    choices
}

/// The whole body, if it says that it is JSON, is not too large and arrives in time.
async fn body(request: Request) -> Result<Bytes, ApiError> {
    check_content_type(request.headers())?;
    let limited = Limited::new(request.into_body(), BODY_BYTES_MAX);
    let read = timeout(BODY_WAIT, limited.collect()).await;
    let collected = read.map_err(|_| ApiError::BodyLate { seconds: BODY_WAIT.as_secs() })?;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(ApiError::BodyTooLarge { max: BODY_BYTES_MAX })
        }
        Err(error) => Err(ApiError::BodyUnreadable { reason: error.to_string() }),
    }
}

/// JSON, or nothing said.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let found = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let media_type = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let suffixed = media_type.starts_with("application/") && media_type.ends_with("+json");
    if media_type == "application/json" || suffixed {
        return Ok(());
    }
    Err(ApiError::UnsupportedMediaType { found: parse::quote(&found) })
}

async fn models(State(api): State<Api>) -> Response {
    let served = api.context.homes.served();
    let data: Vec<_> = served.iter().map(model_object).collect();
    axum::Json(json!({"object": "list", "data": data})).into_response()
}

async fn model(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let id = id.map_or_else(|_| String::new(), |Path(id)| id);
    Ok(axum::Json(model_object(&api.served(&id)?)).into_response())
}

fn model_object(served: &Served) -> serde_json::Value {
    json!({
        "id": served.model,
        "object": "model",
        "created": served.created,
        "owned_by": "boyle",
        "max_model_len": served.context_length,
        "fingerprint": served.fingerprint,
    })
}

/// While the router drains, each answer asks its client to come back on a new connection, which then goes elsewhere.
async fn part(State(api): State<Api>, mut response: Response) -> Response {
    if *api.stage.borrow() != Stage::Running {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The process answers.
async fn livez() -> &'static str {
    "ok\n"
}

/// New requests may be sent here. Without a ready home, too: they are held until there is one.
async fn readyz(State(api): State<Api>) -> (StatusCode, &'static str) {
    let stage = *api.stage.borrow();
    match (stage, api.context.homes.are_known()) {
        (Stage::Running, true) => (StatusCode::OK, "ok\n"),
        (Stage::Running, false) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the router has not been told its homes yet\n")
        }
        (Stage::Draining | Stage::Stopping, _) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the router is stopping\n")
        }
    }
}

async fn health(State(api): State<Api>) -> Response {
    let (homes, ready) = api.context.homes.counts();
    match api.context.homes.unready() {
        None => {
            let body = json!({"status": "ok", "homes": homes, "homes_ready": ready});
            axum::Json(body).into_response()
        }
        Some(reason) => {
            let body = json!({
                "status": "unavailable", "reason": reason, "homes": homes, "homes_ready": ready
            });
            (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response()
        }
    }
}

async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let metrics = &api.context.metrics;
    let (homes, ready) = api.context.homes.counts();
    metrics.homes.set(i64::try_from(homes).unwrap_or(i64::MAX));
    metrics.homes_ready.set(i64::try_from(ready).unwrap_or(i64::MAX));
    let text = metrics.text().map_err(|error| ApiError::Render { reason: error.to_string() })?;
    let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, plain)], text).into_response())
}

async fn not_found(method: Method, uri: Uri) -> ApiError {
    ApiError::NotFound { method: method.to_string(), path: parse::quote(uri.path()) }
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::MethodNotAllowed { method: method.to_string(), path: parse::quote(uri.path()) }
}
