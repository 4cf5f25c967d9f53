//! The HTTP connections: a bound on how many there are, on what each may hold and on how long its headers may take.

use crate::serve::{Stage, stop};
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Connections open at once; more wait in the kernel's queue. Four for each sequence in flight, as clients keep idle
/// ones open.
const CONNECTIONS_MAX: usize = 4096;
/// Buffered for one connection in each direction, all its headers included: room for large cookies and tokens, and
/// 0.5 GiB over all connections.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Before the next try when a connection cannot be accepted: most likely no file descriptor is left, and only time
/// brings one back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves `routes` on every connection to `listener` until `stopped` says so, and then until the last connection has
/// sent its answer. A connection whose next headers take longer than `header_wait` is closed. Dropping the future ends
/// all connections.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    header_wait: Duration,
    stopped: watch::Receiver<Stage>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop(stopped.clone()));
    loop {
        let (stream, slot) = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &slots) => match accepted {
                Some(accepted) => accepted,
                None => continue,
            },
        };
        let (routes, stopped) = (routes.clone(), stopped.clone());
        connections.spawn(async move {
            connection(stream, routes, header_wait, stopped).await;
            drop(slot);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    routes: Router,
    header_wait: Duration,
    stopped: watch::Receiver<Stage>,
) {
    // Tokens are small writes and should not wait for each other; without this they still arrive.
    let _ = stream.set_nodelay(true);
    // HTTP/1 only: telling the versions apart has no time limit.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_wait)
        .max_buf_size(BUFFER_BYTES_MAX);
    let service = TowerToHyperService::new(routes);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = stop(stopped) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended early");
    }
}
