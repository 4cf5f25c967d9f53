//! The client's side: connections to those who can prove that they are whom we expect.

use super::identity::{Deployment, Identity};
use super::store::Store;
use super::{HANDSHAKE_TIMEOUT, Security};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

/// Who must answer. It is ignored without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// An agent of the deployment that this process belongs to.
    OwnAgents,
    Named(Identity),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{address:?} is not host:port")]
    Address { address: String },
    #[error("the operator belongs to no deployment and must say whose agents it expects")]
    Nobody,
    #[error("{address} does not take a connection")]
    Tcp { address: String, source: std::io::Error },
    #[error("{address} does not prove that it is {expected}")]
    Handshake { address: String, expected: Identity, source: std::io::Error },
    #[error("{address} does not finish a TLS handshake as {expected} within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout { address: String, expected: Identity },
}

impl Security {
    /// A channel that connects on first use, and again after each loss, with the certificates of that moment. The
    /// endpoint is `http://HOST:PORT` with and without TLS.
    pub fn lazy(&self, endpoint: &Endpoint, expected: &Expected) -> Channel {
        match self {
            Self::Plaintext => endpoint.connect_lazy(),
            Self::Mtls(mtls) => {
                endpoint.connect_with_connector_lazy(Connector::new(&mtls.store, expected))
            }
        }
    }

    /// A channel that is connected already.
    ///
    /// # Errors
    /// [`tonic::transport::Error`], with a [`ConnectError`] among its sources when it is mTLS.
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
        expected: &Expected,
    ) -> Result<Channel, tonic::transport::Error> {
        match self {
            Self::Plaintext => endpoint.connect().await,
            Self::Mtls(mtls) => {
                endpoint.connect_with_connector(Connector::new(&mtls.store, expected)).await
            }
        }
    }
}

impl Expected {
    fn resolve(&self, own: &Identity) -> Option<Identity> {
        match self {
            Self::OwnAgents => own.deployment().cloned().map(Identity::Agent),
            Self::Named(identity) => Some(identity.clone()),
        }
    }

    /// Agents of this deployment.
    pub fn agents_of(deployment: &Deployment) -> Self {
        Self::Named(Identity::Agent(deployment.clone()))
    }

    /// Routers of this deployment.
    pub fn routers_of(deployment: &Deployment) -> Self {
        Self::Named(Identity::Router(deployment.clone()))
    }
}

/// Opens connections for tonic.
#[derive(Clone, Debug)]
struct Connector {
    store: Arc<Store>,
    expected: Option<Identity>,
}

impl Connector {
    fn new(store: &Arc<Store>, expected: &Expected) -> Self {
        Self { store: Arc::clone(store), expected: expected.resolve(store.own()) }
    }
}

type Connecting =
    Pin<Box<dyn Future<Output = Result<TokioIo<TlsStream<TcpStream>>, ConnectError>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = ConnectError;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let Self { store, expected } = self.clone();
        Box::pin(async move {
            let authority = uri.authority().filter(|authority| authority.port().is_some());
            let Some(address) = authority.map(ToString::to_string) else {
                return Err(ConnectError::Address { address: uri.to_string() });
            };
            let expected = expected.ok_or(ConnectError::Nobody)?;
            match timeout(HANDSHAKE_TIMEOUT, connect(&store, &address, &expected)).await {
                Ok(result) => result.map(TokioIo::new),
                Err(_) => Err(ConnectError::Timeout { address, expected }),
            }
        })
    }
}

async fn connect(
    store: &Store,
    address: &str,
    expected: &Identity,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let refused = |source| ConnectError::Tcp { address: address.to_owned(), source };
    let stream = TcpStream::connect(address).await.map_err(refused)?;
    // Latency per hop is the cost that matters.
    stream.set_nodelay(true).map_err(refused)?;
    let unproven = |source| ConnectError::Handshake {
        address: address.to_owned(),
        expected: expected.clone(),
        source,
    };
    let name = ServerName::try_from(expected.to_string())
        .map_err(|error| unproven(std::io::Error::other(error)))?;
    let material = store.current().await;
    TlsConnector::from(Arc::clone(&material.client)).connect(name, stream).await.map_err(unproven)
}

/// An error and its causes in one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
