//! Whether an HTTP/2 server takes extended CONNECTs.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use crate::conduit::{Conduit, State};

impl Conduit {
    /// Whether the peer takes extended CONNECTs (RFC 8441 §3), which an HTTP/2
    /// server says first of all; none if the connection has ended before.
    pub async fn takes_protocols(&self) -> Option<bool> {
        poll_fn(|cx| self.lock().poll_protocols(cx)).await
    }
}

impl State {
    fn poll_protocols(&mut self, cx: &Context<'_>) -> Poll<Option<bool>> {
        if self.ended.is_some() {
            return Poll::Ready(None);
        }
        let known = self.core.takes_protocols();
        if known.is_some() {
            return Poll::Ready(known);
        }
        if !self.curious.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.curious.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Lets those know who wait for it, if there is something to know.
    pub(crate) fn tell_curious(&mut self) {
        if !self.curious.is_empty()
            && (self.ended.is_some() || self.core.takes_protocols().is_some())
        {
            self.curious.drain(..).for_each(Waker::wake);
        }
    }
}
