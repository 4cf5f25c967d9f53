//! The daemon: everything put together around one listener.

use crate::agent_service::AgentService;
use crate::arguments::{AgentArguments, AgentConfig};
use crate::board::Board;
use crate::closing::{self, CloseSender};
use crate::describe;
use crate::embedded::EmbeddedModel;
use crate::engine_watch::EngineWatch;
use crate::exchange::{ExchangeService, PeerCalls, Workers};
use crate::expert_files::ExpertStreams;
use crate::fetch::available_bytes;
use crate::generation_service::GenerationService;
use crate::librarian::Librarian;
use crate::library::LibraryOptions;
use crate::limits::{
    CLOSE_GRACE, EXPERT_WORKERS, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, STREAMS_PER_CONNECTION_MAX,
};
use crate::loader::Loader;
use crate::memory;
use crate::metrics::Metrics;
use crate::probes::Probes;
use crate::registry::{OwnModel, Registry};
use crate::shutdown::Shutdown;
use crate::store::{Store, StoreError};
use proto::exchange::exchange_server::ExchangeServer;
use proto::limits::{
    ASSIGNMENT_BYTES_MAX, CONNECTION_WINDOW_BYTES, EXCHANGE_FRAME_BYTES_MAX,
    GENERATE_EVENT_BYTES_MAX, GENERATE_REQUEST_BYTES_MAX, HTTP2_FRAME_BYTES_MAX, STATUS_BYTES_MAX,
    STREAM_WINDOW_BYTES,
};
use proto::tls::{Role, Security, SecurityError};
use proto::v1::agent_server::AgentServer;
use proto::v1::generation_server::GenerationServer;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::transport::Server;

/// The daemon cannot run, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cannot listen on {address}; choose another address or stop what uses it")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot talk to the others")]
    Security(#[from] SecurityError),
    #[error("cannot use the state directory")]
    State(#[from] StoreError),
    #[error("the system refuses what the daemon needs")]
    System(#[from] std::io::Error),
    #[error("the gRPC server failed")]
    Server(#[from] tonic::transport::Error),
    #[error("the metrics cannot be made")]
    Metrics(#[from] prometheus::Error),
    #[error("the engine stopped: {reason}")]
    Engine { reason: String },
    #[error("the task that loads assignments stopped")]
    LoaderStopped,
}

/// Sockets that the daemon serves on.
#[derive(Debug)]
pub struct Listeners {
    pub grpc: TcpListener,
    /// For probes and metrics.
    pub http: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(grpc: TcpListener) -> Self {
        Self { grpc, http: None }
    }
}

/// Runs the daemon as a process: a runtime of its own, stop signals, and its address on standard output in one line,
/// `listening on HOST:PORT`. `embedded` are the models inside this executable.
///
/// # Errors
/// [`AgentError`]; the process should exit with a failure, so that it is started again.
pub fn run(
    arguments: AgentArguments,
    embedded: &'static [EmbeddedModel],
) -> Result<(), AgentError> {
    let AgentArguments {
        agent_id,
        listen,
        http_listen,
        state_directory,
        model,
        memory_bytes,
        shutdown_seconds,
        security: asked,
    } = arguments;
    let security = Security::from_directory(asked.tls_directory.as_deref(), Role::Agent)?;
    security.check_listen(listen, asked.plaintext_reach())?;
    let config = AgentConfig {
        agent_id,
        state_directory,
        model,
        embedded,
        memory_bytes,
        shutdown_grace: Duration::from_secs(shutdown_seconds),
        space: available_bytes,
        security,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let grpc = bind(listen).await?;
        let http = match http_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let address = grpc.local_addr()?;
        let mut output = std::io::stdout();
        writeln!(output, "listening on {address}")?;
        output.flush()?;
        let stop = stop_signal()?;
        serve(config, Listeners { grpc, http }, stop).await
    });
    // A load may still be running; nobody waits for it.
    runtime.shutdown_background();
    result
}

async fn bind(address: SocketAddr) -> Result<TcpListener, AgentError> {
    TcpListener::bind(address).await.map_err(|source| AgentError::Listen { address, source })
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
    listeners: impl Into<Listeners>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let Listeners { grpc, http } = listeners.into();
    let security = config.security.clone();
    let Parts { services, loader, librarian, probes, shutdown: leave, close, mut fatal } =
        assemble(config).await?;
    let board = Arc::clone(&leave.board);
    let engine = Arc::clone(&probes.engine);
    let server = services.serve(&security, grpc);
    tokio::pin!(server);
    let probing = async {
        match http {
            Some(listener) => probes.serve(listener).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = &mut server => return Ok(result?),
        () = loader.run() => return Err(AgentError::LoaderStopped),
        () = librarian.run() => return Err(AgentError::LoaderStopped),
        result = probing => return Ok(result?),
        () = board.keep_fresh() => {}
        () = engine.run() => {}
        reason = fatal.recv() => {
            let reason = reason.unwrap_or_else(|| "it was dropped".into());
            return Err(AgentError::Engine { reason });
        }
        () = leave.run(shutdown) => {}
    }
    drop(close);
    match tokio::time::timeout(CLOSE_GRACE, server).await {
        Ok(result) => Ok(result?),
        // Somebody keeps a connection open; the process ends all the same.
        Err(_) => Ok(()),
    }
}

/// What the gRPC server offers.
struct Services {
    agent: AgentService,
    generation: GenerationService,
    exchange: ExchangeService,
}

/// Everything that runs, wired up.
struct Parts {
    services: Services,
    loader: Loader,
    librarian: Librarian,
    probes: Probes,
    shutdown: Shutdown,
    close: CloseSender,
    fatal: mpsc::Receiver<String>,
}

async fn assemble(config: AgentConfig) -> Result<Parts, AgentError> {
    let memory_bytes =
        config.memory_bytes.unwrap_or_else(|| memory::limit_bytes(&memory::Places::default()));
    let board = Arc::new(Board::new(&config.agent_id, memory_bytes));
    let metrics = Arc::new(Metrics::new()?);
    let store = Store::open(&config.state_directory)?;
    let options = LibraryOptions::new(&config);
    let (library_sender, library) = watch::channel(None);
    let origin = options.as_ref().map(|options| options.origin.clone());
    let own = OwnModel { origin, library: library.clone() };
    let registry = Arc::new(Registry::new(&config.agent_id, store, own));
    if let Err(error) = registry.restore().await {
        // The next assignment replaces it; until then the agent is as good as new.
        tracing::error!(reason = describe(&error), "the recorded assignment cannot be used");
    }
    let (resident_sender, resident) = watch::channel(None);
    let (serving_sender, serving) = watch::channel(None);
    let (fatal_sender, fatal) = mpsc::channel(1);
    let (close, closing) = closing::channel();
    let calls = Arc::new(PeerCalls::default());
    let engine = Arc::new(EngineWatch::default());
    let exchange = ExchangeService {
        resident,
        workers: Workers::start(EXPERT_WORKERS)?,
        calls: Arc::clone(&calls),
        closing: closing.clone(),
    };
    let (files_sender, expert_files) = watch::channel(None);
    let agent = AgentService {
        registry: Arc::clone(&registry),
        board: Arc::clone(&board),
        expert_files,
        expert_streams: ExpertStreams::default(),
        closing,
    };
    let loader = Loader {
        agent_id: config.agent_id,
        security: config.security,
        registry: Arc::clone(&registry),
        board: Arc::clone(&board),
        metrics: Arc::clone(&metrics),
        engine: Arc::clone(&engine),
        library,
        resident: resident_sender,
        expert_files: files_sender,
        serving: serving_sender,
        fatal: fatal_sender,
    };
    let generation = GenerationService::new(Arc::clone(&board), serving.clone());
    let services = Services { agent, generation, exchange };
    let librarian = Librarian {
        options,
        board: Arc::clone(&board),
        metrics: Arc::clone(&metrics),
        library: library_sender,
    };
    let probes = Probes { board: Arc::clone(&board), engine, metrics, serving };
    let shutdown = Shutdown { board, registry, calls, grace: config.shutdown_grace };
    Ok(Parts { services, loader, librarian, probes, shutdown, close, fatal })
}

impl Services {
    /// Serves until it is time to close.
    async fn serve(
        self,
        security: &Security,
        listener: TcpListener,
    ) -> Result<(), tonic::transport::Error> {
        let closing = self.agent.closing.clone();
        let server = Server::builder()
            .layer(security.authorise())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(HTTP2_FRAME_BYTES_MAX)
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(
                AgentServer::new(self.agent)
                    .max_decoding_message_size(ASSIGNMENT_BYTES_MAX)
                    .max_encoding_message_size(STATUS_BYTES_MAX),
            )
            .add_service(
                GenerationServer::new(self.generation)
                    .max_decoding_message_size(GENERATE_REQUEST_BYTES_MAX)
                    .max_encoding_message_size(GENERATE_EVENT_BYTES_MAX),
            )
            .add_service(
                ExchangeServer::new(self.exchange)
                    .max_decoding_message_size(EXCHANGE_FRAME_BYTES_MAX)
                    .max_encoding_message_size(EXCHANGE_FRAME_BYTES_MAX),
            );
        server.serve_with_incoming_shutdown(security.incoming(listener), closing.closed()).await
    }
}
