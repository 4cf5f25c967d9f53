//! The end of streams that would never end by themselves.

use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::watch;
use tokio_stream::Stream;

/// Hears that the server closes.
#[derive(Clone, Debug)]
pub struct Closing {
    closing: watch::Receiver<()>,
}

/// Says that the server closes, at the latest when it is dropped.
#[derive(Debug)]
pub struct CloseSender {
    _closing: watch::Sender<()>,
}

/// Both ends.
pub fn channel() -> (CloseSender, Closing) {
    let (sender, closing) = watch::channel(());
    (CloseSender { _closing: sender }, Closing { closing })
}

impl Closing {
    /// Returns once the server closes.
    pub async fn closed(mut self) {
        // Nothing is ever sent: the only change is the sender's end.
        while self.closing.changed().await.is_ok() {}
    }
}

/// A stream that ends when the server closes.
pub struct UntilClosing<S> {
    stream: S,
    closed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<S> UntilClosing<S> {
    pub fn new(stream: S, closing: Closing) -> Self {
        Self { stream, closed: Box::pin(closing.closed()) }
    }
}

impl<S: Stream + Unpin> Stream for UntilClosing<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        if self.closed.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.stream).poll_next(context)
    }
}

impl<S> std::fmt::Debug for UntilClosing<S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("UntilClosing").finish_non_exhaustive()
    }
}
