//! The worker stream's ends of a session.

use std::sync::Arc;
use std::time::Duration;

use muster_core::SessionId;

use super::link::Link;
use super::types::{SessionEnd, SessionInput, SessionOutput};

/// The session is closing or over; the frame was not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker session is over")]
pub struct SessionOver;

/// An open session. Dropping it without a bye means that the worker vanished.
#[derive(Debug)]
pub struct SessionHandle {
    /// Its identity.
    pub id: SessionId,
    sender: SessionSender,
    receiver: SessionReceiver,
}

/// The half into which the worker's frames go. Dropping it without a bye means that the worker vanished.
#[derive(Debug)]
pub struct SessionSender {
    link: Arc<Link>,
}

/// The half from which frames for the worker come. Dropping it before a bye means that the worker vanished.
#[derive(Debug)]
pub struct SessionReceiver {
    link: Arc<Link>,
}

impl SessionHandle {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            id: link.id,
            sender: SessionSender {
                link: Arc::clone(&link),
            },
            receiver: SessionReceiver { link },
        }
    }

    /// See [`SessionSender::send`].
    pub async fn send(&self, input: SessionInput) -> Result<(), SessionOver> {
        self.sender.send(input).await
    }

    /// See [`SessionReceiver::next`].
    pub async fn next(&mut self) -> Option<SessionOutput> {
        self.receiver.next().await
    }

    /// See [`SessionReceiver::end`].
    pub fn end(&self) -> Option<SessionEnd> {
        self.receiver.end()
    }

    /// Silence after which the session is lost.
    pub fn ttl(&self) -> Duration {
        self.sender.link.ttl
    }

    /// Both halves, for a task each.
    pub fn split(self) -> (SessionSender, SessionReceiver) {
        (self.sender, self.receiver)
    }
}

impl SessionSender {
    /// Takes in what the worker says, as a sign of life too. Waits while too many of its reports are unanswered, so the
    /// stream should not be read meanwhile. Returns once it is taken in; the acknowledgements come with the outputs.
    ///
    /// # Cancel safety
    /// Not safe for a frame with reports: a part of it may have been taken in.
    pub async fn send(&self, input: SessionInput) -> Result<(), SessionOver> {
        if self.link.send(input).await {
            Ok(())
        } else {
            Err(SessionOver)
        }
    }

    /// Completes when the session is over.
    pub async fn ended(&self) -> SessionEnd {
        ended(&self.link).await
    }
}

impl SessionReceiver {
    /// The next frame for the worker: at most 1,000 jobs and about 1 MiB of payloads, or one larger job; at most 10,000
    /// acknowledgements and stops. `None` when the session is over. Safe to cancel.
    pub async fn next(&mut self) -> Option<SessionOutput> {
        self.link.next().await
    }

    /// Why the session ended; `None` while it lives.
    pub fn end(&self) -> Option<SessionEnd> {
        self.link.end()
    }
}

async fn ended(link: &Link) -> SessionEnd {
    let mut end = link.ended();
    match end.wait_for(Option::is_some).await.map(|end| *end) {
        Ok(Some(end)) => end,
        Ok(None) | Err(_) => SessionEnd::Failed,
    }
}

impl Drop for SessionSender {
    fn drop(&mut self) {
        self.link.ask_close(SessionEnd::Lost);
    }
}

impl Drop for SessionReceiver {
    fn drop(&mut self) {
        self.link.ask_close(SessionEnd::Lost);
    }
}
