//! The router's life: sockets bound, both servers run, everything ended at the signal.

use crate::config::{RouterArguments, RouterConfig};
use crate::connections;
use crate::control::Control;
use crate::homes::Homes;
use crate::http::{Api, routes};
use crate::metrics::Metrics;
use proto::tls::{Security, SecurityError};
use proto::v1::router_control_server::RouterControlServer;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Connections of the control server get so long to close once everything is answered. Whoever lost its power does not
/// close one.
const CONTROL_CLOSE_GRACE: Duration = Duration::from_secs(1);
/// The operator is pinged, so that a connection from a machine that is gone does not stay for ever.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the router ended.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    #[error("cannot listen on {address} for {purpose}; is the port taken?")]
    Bind {
        address: SocketAddr,
        purpose: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("the address in use cannot be read")]
    Address(#[source] std::io::Error),
    #[error("stdout cannot be written")]
    Announce(#[source] std::io::Error),
    #[error("the router cannot talk to agents and operator")]
    Security(#[from] SecurityError),
    #[error("the metrics cannot be registered")]
    Metrics(#[source] prometheus::Error),
    #[error("the control server failed")]
    Control(#[source] tonic::transport::Error),
}

/// Binds both addresses, prints `listening on ADDR` and `control on ADDR`, and serves until `shutdown`.
///
/// # Errors
/// [`RouterError`].
pub async fn run(
    arguments: &RouterArguments,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RouterError> {
    let config = arguments.config()?;
    let http = bind(arguments.listen, "HTTP").await?;
    let control = bind(arguments.control_listen, "control").await?;
    let http_address = http.local_addr().map_err(RouterError::Address)?;
    let control_address = control.local_addr().map_err(RouterError::Address)?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {http_address}\ncontrol on {control_address}")
        .and_then(|()| out.flush())
        .map_err(RouterError::Announce)?;
    serve(config, http, control, shutdown).await
}

async fn bind(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, RouterError> {
    TcpListener::bind(address).await.map_err(|source| RouterError::Bind {
        address,
        purpose,
        source,
    })
}

/// Serves the API on `http` and `RouterControl` on `listener`. After `shutdown` the router says that it is not ready, but
/// takes connections for `Patience::drain` more; then none, and running requests have `Patience::shutdown` to end.
///
/// # Errors
/// [`RouterError`] when a server fails.
pub async fn serve(
    config: RouterConfig,
    http: TcpListener,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RouterError> {
    let metrics = Arc::new(Metrics::new().map_err(RouterError::Metrics)?);
    let homes = Arc::new(Homes::new(config.patience, config.security.clone()));
    let (stopping, stopped) = watch::channel(Stage::Running);
    let api = Api::new(&config, Arc::clone(&homes), Arc::clone(&metrics), stopped.clone());
    // Streams that still run must learn where they can go on, so that this server ends after the other one.
    let (answered, all_answered) = watch::channel(());
    let http_server = connections::serve(http, routes(api), config.patience.header, stopped);
    let answering = async {
        http_server.await;
        drop(answered);
        Ok(())
    };
    let control = Control { homes, metrics };
    let controlling = serve_control(&config.security, listener, control, all_answered);
    let servers = async { tokio::try_join!(answering, controlling).map(|_| ()) };
    let deadline = async {
        shutdown.await;
        tracing::info!("draining");
        stopping.send_replace(Stage::Draining);
        tokio::time::sleep(config.patience.drain).await;
        tracing::info!("stopping");
        stopping.send_replace(Stage::Stopping);
        tokio::time::sleep(config.patience.shutdown).await;
    };
    tokio::select! {
        ended = servers => ended,
        () = deadline => {
            tracing::warn!("some requests were still running at the end");
            Ok(())
        }
    }
}

/// Serves `RouterControl` until everything is answered.
async fn serve_control(
    security: &Security,
    listener: TcpListener,
    control: Control,
    all_answered: watch::Receiver<()>,
) -> Result<(), RouterError> {
    let server = tonic::transport::Server::builder()
        .layer(security.authorise())
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(RouterControlServer::new(control))
        .serve_with_incoming_shutdown(
            security.incoming(listener),
            until_dropped(all_answered.clone()),
        );
    let goodbyes = async {
        until_dropped(all_answered).await;
        tokio::time::sleep(CONTROL_CLOSE_GRACE).await;
    };
    tokio::select! {
        ended = server => ended.map_err(RouterError::Control),
        () = goodbyes => Ok(()),
    }
}

/// Nothing is ever sent: dropping the other end is the signal.
async fn until_dropped(mut signal: watch::Receiver<()>) {
    while signal.changed().await.is_ok() {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Running,
    /// Not ready, but whoever has not heard of it is served.
    Draining,
    /// No connection is taken any more.
    Stopping,
}

/// Ends when it is time to stop.
pub async fn stop(mut stage: watch::Receiver<Stage>) {
    // An error means that the sender is gone, which also is the end.
    let _ = stage.wait_for(|stage| *stage == Stage::Stopping).await;
}
