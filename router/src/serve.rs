//! The router's life: sockets bound, both servers run, everything ended at the signal.

use crate::config::{RouterArguments, RouterConfig};
use crate::connections;
use crate::control::Control;
use crate::homes::Homes;
use crate::http::{Api, routes};
use crate::metrics::Metrics;
use proto::v1::router_control_server::RouterControlServer;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;

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
    let http = bind(arguments.listen, "HTTP").await?;
    let control = bind(arguments.control_listen, "control").await?;
    let http_address = http.local_addr().map_err(RouterError::Address)?;
    let control_address = control.local_addr().map_err(RouterError::Address)?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {http_address}\ncontrol on {control_address}")
        .and_then(|()| out.flush())
        .map_err(RouterError::Announce)?;
    serve(arguments.config(), http, control, shutdown).await
}

async fn bind(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, RouterError> {
    TcpListener::bind(address).await.map_err(|source| RouterError::Bind {
        address,
        purpose,
        source,
    })
}

/// Serves the API on `http` and `RouterControl` on `control`. After `shutdown` no connection is taken, and running
/// requests have `Patience::shutdown` to end.
///
/// # Errors
/// [`RouterError`] when a server fails.
pub async fn serve(
    config: RouterConfig,
    http: TcpListener,
    control: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RouterError> {
    let metrics = Arc::new(Metrics::new().map_err(RouterError::Metrics)?);
    let homes = Arc::new(Homes::new(config.patience));
    let api = Api::new(&config, Arc::clone(&homes), Arc::clone(&metrics));
    let (stopping, stopped) = watch::channel(Stage::Running);

    let http_server =
        connections::serve(http, routes(api), config.patience.header, stopped.clone());
    let control_server = tonic::transport::Server::builder()
        .add_service(RouterControlServer::new(Control { homes, metrics }))
        .serve_with_incoming_shutdown(TcpListenerStream::new(control), stop(stopped));
    let servers = async {
        let ((), control) = tokio::join!(http_server, control_server);
        control.map_err(RouterError::Control)
    };
    let deadline = async {
        shutdown.await;
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Running,
    Stopping,
}

/// Ends when it is time to stop.
pub async fn stop(mut stage: watch::Receiver<Stage>) {
    // An error means that the sender is gone, which also is the end.
    let _ = stage.wait_for(|stage| *stage == Stage::Stopping).await;
}
