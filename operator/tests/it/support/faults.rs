//! Between the operator and the API server: a recorder of requests that lets chosen ones go wrong.

use axum::http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::{Body, DynBody};
use operator::api::Transport;
use serde_json::json;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

/// How a request goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives.
    Lost,
    /// It arrives and is done; the answer is lost.
    Unanswered,
    /// The server answers with this code and does nothing.
    Refused(u16),
}

/// One request as it was.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub begin: Instant,
    pub end: Option<Instant>,
}

/// The layer; clones share what they saw.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    seen: Vec<Seen>,
    plan: Option<(usize, Fault)>,
    fired: bool,
}

impl Faults {
    /// The request of that number, counted from 0, goes wrong.
    pub fn at(number: usize, fault: Fault) -> Self {
        let state = State { plan: Some((number, fault)), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// Whether the request that should go wrong has come.
    pub fn fired(&self) -> bool {
        self.state.lock().unwrap().fired
    }

    fn begin(&self, method: &Method, path: &str) -> (usize, Option<Fault>) {
        let mut state = self.state.lock().unwrap();
        let number = state.seen.len();
        let (method, path) = (method.clone(), path.to_owned());
        state.seen.push(Seen { method, path, begin: Instant::now(), end: None });
        let fault = state.plan.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        state.fired |= fault.is_some();
        (number, fault)
    }

    fn end(&self, number: usize) {
        self.state.lock().unwrap().seen[number].end = Some(Instant::now());
    }
}

impl Layer<Transport> for Faults {
    type Service = Faulty;

    fn layer(&self, inner: Transport) -> Faulty {
        Faulty { inner, faults: self.clone() }
    }
}

/// The transport behind the layer.
pub struct Faulty {
    inner: Transport,
    faults: Faults,
}

type Answer = Result<Response<Box<DynBody>>, BoxError>;

impl Service<Request<Body>> for Faulty {
    type Response = Response<Box<DynBody>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = self.inner.call(request);
        let faults = self.faults.clone();
        Box::pin(async move {
            let (number, fault) = faults.begin(&method, &path);
            let answer = match fault {
                None => answer.await,
                Some(Fault::Lost) => Err("the request is lost".into()),
                Some(Fault::Unanswered) => {
                    answer.await?;
                    Err("the answer is lost".into())
                }
                Some(Fault::Refused(code)) => Ok(refusal(code)),
            };
            faults.end(number);
            answer
        })
    }
}

fn refusal(code: u16) -> Response<Box<DynBody>> {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
        "reason": "Injected", "message": "a fault of the test"});
    let body = Full::new(bytes::Bytes::from(status.to_string()));
    let body: Box<DynBody> = Box::new(body.map_err(BoxError::from));
    Response::builder().status(code).body(body).unwrap()
}
