//! The daemon: everything put together around one listener.

use crate::agent_service::AgentService;
use crate::arguments::{AgentArguments, AgentConfig};
use crate::board::Board;
use crate::closing::{self, Closing};
use crate::describe;
use crate::exchange::{ExchangeService, Workers};
use crate::generation_service::GenerationService;
use crate::limits::{
    CLOSE_GRACE, EXPERT_WORKERS, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, SHUTDOWN_GRACE,
    STATUS_INTERVAL, STREAMS_PER_CONNECTION_MAX,
};
use crate::loader::Loader;
use crate::registry::Registry;
use crate::store::{Store, StoreError};
use proto::exchange::exchange_server::ExchangeServer;
use proto::limits::{
    ASSIGNMENT_BYTES_MAX, CONNECTION_WINDOW_BYTES, EXCHANGE_FRAME_BYTES_MAX,
    GENERATE_EVENT_BYTES_MAX, GENERATE_REQUEST_BYTES_MAX, HTTP2_FRAME_BYTES_MAX, STATUS_BYTES_MAX,
    STREAM_WINDOW_BYTES,
};
use proto::v1::agent_server::AgentServer;
use proto::v1::generation_server::GenerationServer;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};

/// The daemon cannot run, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cannot listen on {address}; choose another address or stop what uses it")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot use the state directory")]
    State(#[from] StoreError),
    #[error("the system refuses what the daemon needs")]
    System(#[from] std::io::Error),
    #[error("the gRPC server failed")]
    Server(#[from] tonic::transport::Error),
    #[error("the engine stopped: {reason}")]
    Engine { reason: String },
    #[error("the task that loads assignments stopped")]
    LoaderStopped,
}

/// Runs the daemon as a process: a runtime of its own, stop signals, and its address on standard output in one line,
/// `listening on HOST:PORT`.
///
/// # Errors
/// [`AgentError`]; the process should exit with a failure, so that it is started again.
pub fn run(arguments: AgentArguments) -> Result<(), AgentError> {
    let AgentArguments { agent_id, listen, state_directory } = arguments;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| AgentError::Listen { address: listen, source })?;
        let address = listener.local_addr()?;
        let mut output = std::io::stdout();
        writeln!(output, "listening on {address}")?;
        output.flush()?;
        let stop = stop_signal()?;
        serve(AgentConfig { agent_id, state_directory }, listener, stop).await
    });
    // A load may still be running; nobody waits for it.
    runtime.shutdown_background();
    result
}

fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Serves until `shutdown` is ready or the engine stops. Sequences that run then have a moment to end.
///
/// # Errors
/// [`AgentError`].
pub async fn serve(
    config: AgentConfig,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let board = Arc::new(Board::new(&config.agent_id));
    let store = Store::open(&config.state_directory)?;
    let registry = Arc::new(Registry::new(&config.agent_id, store));
    if let Err(error) = registry.restore().await {
        // The next assignment replaces it; until then the agent is as good as new.
        tracing::error!(reason = describe(&error), "the recorded assignment cannot be used");
    }
    let (resident_sender, resident) = watch::channel(None);
    let (serving_sender, serving) = watch::channel(None);
    let (fatal, mut fatal_reason) = mpsc::channel(1);
    let (close_sender, closing) = closing::channel();
    let exchange = ExchangeService {
        resident,
        workers: Workers::start(EXPERT_WORKERS)?,
        closing: closing.clone(),
    };
    let generation = GenerationService::new(Arc::clone(&board), serving);
    let agent = AgentService {
        registry: Arc::clone(&registry),
        board: Arc::clone(&board),
        closing: closing.clone(),
    };
    let loader = Loader {
        agent_id: config.agent_id,
        registry,
        board: Arc::clone(&board),
        resident: resident_sender,
        serving: serving_sender,
        fatal,
    };
    let server = server(agent, generation, exchange)
        .serve_with_incoming_shutdown(incoming(listener), closed(closing));
    tokio::pin!(server);
    tokio::select! {
        result = &mut server => return Ok(result?),
        () = loader.run() => return Err(AgentError::LoaderStopped),
        () = board.keep_fresh() => {}
        reason = fatal_reason.recv() => {
            let reason = reason.unwrap_or_else(|| "it was dropped".into());
            return Err(AgentError::Engine { reason });
        }
        () = drained(shutdown, &board) => {}
    }
    drop(close_sender);
    match tokio::time::timeout(CLOSE_GRACE, server).await {
        Ok(result) => Ok(result?),
        // Somebody keeps a connection open; the process ends all the same.
        Err(_) => Ok(()),
    }
}

async fn closed(closing: Closing) {
    closing.closed().await;
}

/// Waits for the stop signal, takes no new sequences from then on, and gives the running ones a moment.
async fn drained(shutdown: impl Future<Output = ()>, board: &Board) {
    shutdown.await;
    tracing::info!(sequences = board.sequences(), "stopping");
    board.drain();
    let empty = async {
        while board.sequences() > 0 {
            tokio::time::sleep(STATUS_INTERVAL).await;
        }
    };
    if tokio::time::timeout(SHUTDOWN_GRACE, empty).await.is_err() {
        tracing::warn!(sequences = board.sequences(), "stopping with sequences running");
    }
}

fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

fn server(agent: AgentService, generation: GenerationService, exchange: ExchangeService) -> Router {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(
            AgentServer::new(agent)
                .max_decoding_message_size(ASSIGNMENT_BYTES_MAX)
                .max_encoding_message_size(STATUS_BYTES_MAX),
        )
        .add_service(
            GenerationServer::new(generation)
                .max_decoding_message_size(GENERATE_REQUEST_BYTES_MAX)
                .max_encoding_message_size(GENERATE_EVENT_BYTES_MAX),
        )
        .add_service(
            ExchangeServer::new(exchange)
                .max_decoding_message_size(EXCHANGE_FRAME_BYTES_MAX)
                .max_encoding_message_size(EXCHANGE_FRAME_BYTES_MAX),
        )
}
