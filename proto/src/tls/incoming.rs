//! The server's side: connections of callers who have shown their certificate.

use super::channel::describe;
use super::identity::Identity;
use super::store::Store;
use super::{HANDSHAKE_TIMEOUT, Security};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

/// Handshakes at once. The next connection takes the place of the oldest: an honest handshake takes milliseconds, so
/// whoever opens connections and says nothing pushes out others like him.
pub const HANDSHAKES_MAX: usize = 256;

/// Pause after the system refused to hand out a connection, which it does when there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody on a connection without TLS.
    Anybody,
    Known(Identity),
    /// A certificate of a trusted authority without one of our names; the text says what it has.
    Unknown(String),
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    caller: Caller,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why a caller did not become a connection.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("the connection broke")]
    Tcp(#[source] io::Error),
    #[error("the caller's handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the caller did not finish its handshake within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
}

/// Connections to a listener, for `serve_with_incoming`. Dropping it closes the listener and ends unfinished handshakes.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    security: Security,
    handshakes: JoinSet<Result<Connection, HandshakeError>>,
    /// The same handshakes, the oldest first, and some that are over.
    order: VecDeque<AbortHandle>,
    pause: Option<Pin<Box<Sleep>>>,
    /// The reason that was logged last.
    trouble: String,
}

impl Security {
    /// The connections that come to a listener.
    pub fn incoming(&self, listener: TcpListener) -> Incoming {
        Incoming {
            listener,
            security: self.clone(),
            handshakes: JoinSet::new(),
            order: VecDeque::new(),
            pause: None,
            trouble: String::new(),
        }
    }
}

impl Incoming {
    fn begin(&mut self, store: Arc<Store>, stream: TcpStream) {
        self.order.retain(|handshake| !handshake.is_finished());
        while self.order.len() >= HANDSHAKES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        self.order.push_back(self.handshakes.spawn(handshake(store, stream)));
    }

    fn report(&mut self, error: &HandshakeError) {
        let trouble = describe(error);
        // The same reason again is no news: callers try again and again.
        if trouble != self.trouble {
            tracing::warn!(reason = trouble, "a caller was refused");
            self.trouble = trouble;
        }
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let accepted = std::task::ready!(self.listener.poll_accept(context));
        if accepted.is_err() {
            self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
        }
        Poll::Ready(accepted.map(|(stream, _)| stream))
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match this.handshakes.poll_join_next(context) {
                Poll::Ready(Some(Ok(Ok(connection)))) => return Poll::Ready(Some(Ok(connection))),
                Poll::Ready(Some(Ok(Err(error)))) => {
                    this.report(&error);
                    continue;
                }
                // It was pushed out.
                Poll::Ready(Some(Err(_))) => continue,
                Poll::Ready(None) | Poll::Pending => {}
            }
            let stream = match std::task::ready!(this.poll_accept(context)) {
                Ok(stream) => stream,
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            match &this.security {
                Security::Plaintext => {
                    // A caller that has gone already shows that itself at the first read.
                    let _ = stream.set_nodelay(true);
                    let transport = Transport::Plain(stream);
                    return Poll::Ready(Some(Ok(Connection {
                        transport,
                        caller: Caller::Anybody,
                    })));
                }
                Security::Mtls(mtls) => {
                    let store = Arc::clone(&mtls.store);
                    this.begin(store, stream);
                }
            }
        }
    }
}

async fn handshake(store: Arc<Store>, stream: TcpStream) -> Result<Connection, HandshakeError> {
    stream.set_nodelay(true).map_err(HandshakeError::Tcp)?;
    let shaken = async {
        let material = store.current().await;
        TlsAcceptor::from(Arc::clone(&material.server)).accept(stream).await
    };
    let stream = timeout(HANDSHAKE_TIMEOUT, shaken)
        .await
        .map_err(|_| HandshakeError::Timeout)?
        .map_err(HandshakeError::Handshake)?;
    let caller = caller(&stream);
    Ok(Connection { transport: Transport::Tls(Box::new(stream)), caller })
}

fn caller(stream: &TlsStream<TcpStream>) -> Caller {
    let (_, session) = stream.get_ref();
    match session.peer_certificates().and_then(<[_]>::first) {
        Some(certificate) => match Identity::of_certificate(certificate) {
            Ok(identity) => Caller::Known(identity),
            Err(error) => Caller::Unknown(error.to_string()),
        },
        // The handshake asks for one; without it there is no stream.
        None => Caller::Unknown("no certificate was shown".into()),
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
