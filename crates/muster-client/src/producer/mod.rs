//! Gathers concurrent enqueues into frames of one stream.
//!
//! Callers hand [`Ticket`]s to one task, the [`driver`]. It sends what waits as one frame, while frames it sent before
//! are unanswered; so the more callers there are, the larger the frames, without any linger. Results go back to each
//! caller. Jobs whose frame went unanswered are sent again, with the same ids, on another stream.

mod connection;
mod driver;
mod ticket;

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tonic::Code;
use tonic::metadata::{Ascii, MetadataValue};

use crate::error::{Error, Result, local};
use crate::jobs::Enqueued;
use crate::members::Members;

pub(crate) use ticket::Entry;
use ticket::Ticket;

/// A frame's size.
const FRAME_JOBS_MAX: usize = 1_000;
const FRAME_BYTES_MAX: usize = 1 << 20;
/// What may wait for results, in bytes; more callers wait for room.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// The callers' end.
pub(crate) struct Producer {
    tickets: mpsc::UnboundedSender<Ticket>,
    // Bounds what is in the channel.
    room: Arc<Semaphore>,
}

impl Producer {
    /// Starts the driver on the current runtime. It ends with the last clone of the client.
    pub(crate) fn start(members: Arc<Members>, tenant: MetadataValue<Ascii>) -> Self {
        let (tickets, incoming) = mpsc::unbounded_channel();
        tokio::spawn(driver::Driver::new(members, tenant, incoming).run());
        Self {
            tickets,
            room: Arc::new(Semaphore::new(PENDING_BYTES_MAX)),
        }
    }

    pub(crate) async fn enqueue(&self, entry: Entry, deadline: Instant) -> Result<Enqueued> {
        let results = self.hand_over(vec![entry], deadline).await?;
        let mut results = results.await.map_err(|_| stopped())?;
        results.pop().unwrap_or_else(|| Err(stopped()))
    }

    pub(crate) async fn enqueue_many(&self, entries: Vec<Entry>, deadline: Instant) -> Vec<Result<Enqueued>> {
        let mut chunks = Vec::new();
        for chunk in split(entries) {
            let count = chunk.len();
            chunks.push((count, self.hand_over(chunk, deadline).await));
        }
        let mut results = Vec::new();
        for (count, chunk) in chunks {
            match chunk {
                Ok(chunk) => match chunk.await {
                    Ok(chunk) => results.extend(chunk),
                    Err(_) => results.extend((0..count).map(|_| Err(stopped()))),
                },
                Err(error) => {
                    let reason = error.reason().cloned();
                    results.extend((0..count).map(|_| match &reason {
                        Some(reason) => Err(Error::NotDone(Box::new(reason.clone()))),
                        None => Err(stopped()),
                    }));
                }
            }
        }
        results
    }

    async fn hand_over(
        &self,
        entries: Vec<Entry>,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Vec<Result<Enqueued>>>> {
        let bytes = entries
            .iter()
            .map(Entry::bytes)
            .sum::<usize>()
            .clamp(1, PENDING_BYTES_MAX);
        let room = Arc::clone(&self.room);
        let permit = tokio::time::timeout_at(deadline, room.acquire_many_owned(bytes as u32)).await;
        let Ok(Ok(permit)) = permit else {
            let message = format!("{PENDING_BYTES_MAX} bytes of jobs wait for answers already");
            return Err(Error::NotDone(Box::new(local(
                Code::ResourceExhausted,
                "CLIENT_BUSY",
                message,
            ))));
        };
        let (ticket, results) = Ticket::new(entries, deadline, permit);
        self.tickets.send(ticket).map_err(|_| {
            Error::NotDone(Box::new(local(
                Code::Cancelled,
                "CLIENT_STOPPED",
                "the runtime that sends has ended",
            )))
        })?;
        Ok(results)
    }
}

fn stopped() -> Error {
    Error::Unknown(Box::new(local(
        Code::Cancelled,
        "CLIENT_STOPPED",
        "the runtime that sends has ended",
    )))
}

/// Cuts into chunks that each fit a frame.
fn split(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut chunks = Vec::new();
    let mut chunk = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        if !chunk.is_empty() && (chunk.len() >= FRAME_JOBS_MAX || bytes + entry.bytes() > FRAME_BYTES_MAX) {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
        bytes += entry.bytes();
        chunk.push(entry);
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}
