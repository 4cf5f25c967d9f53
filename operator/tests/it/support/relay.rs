//! Between one operator and the API server: a relay that notes every write on its way and can be cut. Unlike a layer of
//! the client, it sees the election too.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use futures::StreamExt;
use http_body_util::BodyExt;
use kube::{Client, Config};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bodies of one operator's requests: a plan of a large deployment is below a MiB.
const BODY_MAX: usize = 16 << 20;

/// A write that reached the API server.
#[derive(Clone, Debug)]
pub struct Write {
    pub who: &'static str,
    pub method: Method,
    pub path: String,
    pub begin: Instant,
    /// When the answer came, and its code; `None` while it is on its way.
    pub end: Option<(Instant, StatusCode)>,
}

impl Write {
    /// The election's own.
    pub fn is_election(&self) -> bool {
        self.path.contains("/leases")
    }
}

/// Writes of all relays that share it, in the order in which they were sent on.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Write>>>);

impl Log {
    pub fn writes(&self) -> Vec<Write> {
        self.0.lock().unwrap().clone()
    }

    fn begin(&self, who: &'static str, method: Method, path: String) -> usize {
        let mut writes = self.0.lock().unwrap();
        writes.push(Write { who, method, path, begin: Instant::now(), end: None });
        writes.len() - 1
    }

    fn end(&self, number: usize, code: StatusCode) {
        self.0.lock().unwrap()[number].end = Some((Instant::now(), code));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    Open,
    Cut,
}

/// A way to the API server, until dropped.
pub struct Relay {
    pub config: Config,
    passage: watch::Sender<Passage>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Route {
    who: &'static str,
    client: Client,
    log: Log,
    passage: watch::Receiver<Passage>,
}

impl Relay {
    /// A relay for the operator `who` to the API server of `config`.
    pub async fn start(who: &'static str, config: &Config, log: &Log) -> Self {
        // Whatever goes wrong is the operator's to see.
        let mut direct = config.clone();
        direct.default_retry = false;
        let client = Client::try_from(direct).unwrap();
        let passage = watch::Sender::new(Passage::Open);
        let route = Route { who, client, log: log.clone(), passage: passage.subscribe() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Router::new().fallback(pass).with_state(route);
        let task = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        let url = format!("http://{address}").parse().unwrap();
        Self { config: Config::new(url), passage, task }
    }

    /// Nothing passes any more: requests wait, watches end.
    pub fn cut(&self) {
        self.passage.send_replace(Passage::Cut);
    }

    /// Everything passes again, what still waits first.
    pub fn mend(&self) {
        self.passage.send_replace(Passage::Open);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(State(route): State<Route>, request: Request) -> Response<Body> {
    let Route { who, client, log, mut passage } = route;
    let (mut parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_MAX).await.expect("a body");
    // Dropped here when the operator gives up.
    passage.wait_for(|it| *it == Passage::Open).await.expect("the relay lives");
    let is_write = parts.method != Method::GET;
    let path = parts.uri.path().to_owned();
    let number = is_write.then(|| log.begin(who, parts.method.clone(), path));
    strip(&mut parts.headers);
    // The client puts the server's address before the path.
    parts.uri = parts.uri.path_and_query().expect("a path").as_str().parse().expect("a path");
    let sent = axum::http::Request::from_parts(parts, kube::client::Body::from(body));
    // A write that is on its way arrives, whatever becomes of the one who sent it.
    let answer = tokio::spawn(async move {
        let answer = client.send(sent).await;
        let code = answer.as_ref().map_or(StatusCode::BAD_GATEWAY, |answer| answer.status());
        if let Some(number) = number {
            log.end(number, code);
        }
        answer
    });
    let Ok(answer) = answer.await.expect("the request does not panic") else {
        let failed = Response::builder().status(StatusCode::BAD_GATEWAY);
        return failed.body(Body::empty()).unwrap();
    };
    let (mut parts, body) = answer.into_parts();
    strip(&mut parts.headers);
    let cut = async move { drop(passage.wait_for(|it| *it == Passage::Cut).await) };
    let data = body.into_data_stream().take_until(Box::pin(cut));
    Response::from_parts(parts, Body::from_stream(data))
}

/// What holds for one connection alone.
fn strip(headers: &mut HeaderMap) {
    for name in [ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING] {
        headers.remove(name);
    }
}
