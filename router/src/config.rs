//! The router's settings and the numbers behind them.

use clap::Parser;
use proto::tls::{PlaintextReach, Role, Security, SecurityError};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Largest body. A context of 128 k tokens is about 0.5 MiB of text; this leaves room for token ids as JSON.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a body may take to arrive; a slow sender holds one of the requests in flight.
pub const BODY_WAIT: Duration = Duration::from_secs(60);
/// Bodies being parsed at once. JSON values take up to 16 times their text, so this bounds that memory to 0.5 GiB.
pub const PARSES_MAX: usize = 8;
/// Sequences in flight over all requests (a request with `n` counts `n` times); more are refused with 429.
pub const SEQUENCES_MAX: usize = 1024;
/// New sequences that wait for a home; more are refused with 429. Each keeps its prompt meanwhile, and what a deployment
/// that wakes is asked at once should not all time out there.
pub const HELD_MAX: usize = 512;

/// Command line of the router; every flag has an environment variable too.
#[derive(Clone, Debug, Parser)]
#[command(name = "boyle-router", version, about = "The OpenAI-compatible front of Boyle's agents")]
pub struct RouterArguments {
    /// Address of the HTTP API; port 0 takes a free one.
    #[arg(long, env = "BOYLE_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Address of the gRPC control service that is told the homes; port 0 takes a free one.
    #[arg(long, env = "BOYLE_CONTROL_LISTEN", default_value = "127.0.0.1:0")]
    pub control_listen: SocketAddr,
    /// Sequences in flight; more are refused with 429.
    #[arg(long, env = "BOYLE_SEQUENCES_MAX", default_value_t = SEQUENCES_MAX)]
    pub sequences_max: usize,
    /// Seconds that a request waits while no home can take it.
    #[arg(long, env = "BOYLE_HOLD_SECONDS", default_value_t = Patience::default().hold.as_secs())]
    pub hold_seconds: u64,
    /// New sequences that wait while no home can take them; more are refused with 429.
    #[arg(long, env = "BOYLE_HELD_MAX", default_value_t = HELD_MAX)]
    pub held_max: usize,
    /// Seconds after the stop signal in which connections are still taken, while /readyz fails: until then, load
    /// balancers may go on sending.
    #[arg(long, env = "BOYLE_DRAIN_SECONDS", default_value_t = Patience::default().drain.as_secs())]
    pub drain_seconds: u64,
    /// Seconds after that in which running requests may end.
    #[arg(long, env = "BOYLE_SHUTDOWN_SECONDS", default_value_t = Patience::default().shutdown.as_secs())]
    pub shutdown_seconds: u64,
    /// Folder with tls.crt, tls.key and ca.crt: mutual TLS with agents and the operator. Changed files are read again.
    /// The HTTP API stays as it is.
    #[arg(long, env = "BOYLE_TLS_DIRECTORY")]
    pub tls_directory: Option<PathBuf>,
    /// Let the control service listen within other machines' reach without TLS: anybody there may call it.
    #[arg(long, env = "BOYLE_INSECURE_PLAINTEXT")]
    pub insecure_plaintext: bool,
}

impl RouterArguments {
    /// # Errors
    /// [`SecurityError`] when the certificates cannot be used, or when there are none and others could call.
    pub fn config(&self) -> Result<RouterConfig, SecurityError> {
        let security = Security::from_directory(self.tls_directory.as_deref(), Role::Router)?;
        let reach = if self.insecure_plaintext {
            PlaintextReach::Anywhere
        } else {
            PlaintextReach::Loopback
        };
        security.check_listen(self.control_listen, reach)?;
        let patience = Patience {
            hold: Duration::from_secs(self.hold_seconds),
            drain: Duration::from_secs(self.drain_seconds),
            shutdown: Duration::from_secs(self.shutdown_seconds),
            ..Patience::default()
        };
        let Self { sequences_max, held_max, .. } = *self;
        Ok(RouterConfig { security, sequences_max, held_max, patience })
    }
}

/// What `serve` needs beside its sockets.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// Towards agents, and of the control service.
    pub security: Security,
    pub sequences_max: usize,
    pub held_max: usize,
    pub patience: Patience,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            security: Security::Plaintext,
            sequences_max: SEQUENCES_MAX,
            held_max: HELD_MAX,
            patience: Patience::default(),
        }
    }
}

/// How long the router waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the headers of a connection's next request, and so for an idle connection too. Longer than the minute that
    /// proxies keep theirs open, so that they close first.
    pub header: Duration,
    /// Without a token while no home takes the sequence: long enough to load a model again from disk.
    pub hold: Duration,
    /// A stream is silent this long and its home's status is lost: it goes on elsewhere. Moving is always safe, it
    /// only costs the prefill, and a mere hiccup of the status should not cost that. Less than `status`, so that a
    /// stream which fell silent together with the status is left the moment that is lost.
    pub silence_without_status: Duration,
    /// A stream is silent this long although its home reports that it is well. Prefills of long prompts on loaded
    /// machines take minutes; this is for agents that are wedged.
    pub silence_with_status: Duration,
    /// Statuses come every 0.9 s; a home without one for this long is chosen only when every other one is so too.
    /// Without this, each new request that meets a frozen home would wait until the home counts as lost.
    pub status_late: Duration,
    /// A home without a status for this long counts as lost: it is not chosen, and its silent streams go on elsewhere.
    /// It bounds how long the streams stand still whose home is frozen, without power or cut off: such a home closes no
    /// connection. Two statuses must be missing and half a second more: statuses are sent by a thread that does not
    /// compute, so that a machine with all cores busy delays them by far less.
    pub status: Duration,
    /// After this, a stream's response begins even if no home has accepted the prompt yet; later errors then travel
    /// inside the stream instead of as a status code.
    pub response_start: Duration,
    /// Between comments that keep a waiting stream's connection open.
    pub keep_alive: Duration,
    /// Between the shutdown signal and the last connection taken; see `RouterArguments::drain_seconds`.
    pub drain: Duration,
    /// For running requests after that.
    pub shutdown: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(75),
            hold: Duration::from_secs(120),
            silence_without_status: Duration::from_millis(1500),
            silence_with_status: Duration::from_secs(600),
            status_late: Duration::from_millis(1500),
            status: Duration::from_millis(2500),
            response_start: Duration::from_secs(5),
            keep_alive: Duration::from_secs(5),
            drain: Duration::ZERO,
            shutdown: Duration::from_secs(10),
        }
    }
}
