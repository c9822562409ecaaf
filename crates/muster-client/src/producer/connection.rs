//! One stream to one node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::job_service_client::JobServiceClient;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Status, Streaming};

use super::ticket::Ticket;
use super::{FRAME_BYTES_MAX, FRAME_JOBS_MAX};
use crate::call::stream_request;
use crate::error::{Attempt, local};
use crate::members::Members;

/// The server's bound.
const UNANSWERED_MAX: usize = 64;
/// A frame costs the cluster a log entry: a sync on three disks, however few jobs are in it. So a small frame goes out
/// only when none is unanswered, and one of at least this many jobs when at most one is: what waits meanwhile goes into
/// the next. Callers lose nothing by it, since the cluster would have had them wait for the entry before in any case.
const MEDIUM_JOBS: usize = 128;
const UNANSWERED_MEDIUM_MAX: usize = 2;

/// A frame on its way.
struct Frame {
    sent_at: Instant,
    // Each with the number of its jobs in the frame. `None`: given up in the meantime.
    tickets: Vec<(usize, Option<Ticket>)>,
}

pub(super) struct Connection {
    pub(super) address: String,
    frames: mpsc::Sender<v1::EnqueueStreamRequest>,
    responses: Streaming<v1::EnqueueStreamResponse>,
    unanswered: BTreeMap<u64, Frame>,
    sequence: u64,
    /// No new frames: another node is better, as soon as this one has answered.
    pub(super) leaving: bool,
}

/// Why no stream could be opened; no job was sent.
pub(super) struct OpenFailure {
    pub(super) address: String,
    pub(super) attempt: Attempt,
}

/// Opens a stream to the leader as far as `first`, the node to ask, knows it. Every step has a time limit.
pub(super) async fn open(
    members: Arc<Members>,
    tenant: MetadataValue<Ascii>,
    first: String,
    wait: Duration,
) -> Result<Box<Connection>, OpenFailure> {
    tokio::time::sleep(wait).await;
    if let Err(reason) = members.refresh(&first).await {
        return Err(OpenFailure {
            address: first,
            attempt: Attempt::Retry(reason),
        });
    }
    let address = members.pick().address;
    let failure = |attempt| OpenFailure {
        address: address.clone(),
        attempt,
    };
    let channel = members
        .channel(&address)
        .await
        .map_err(|reason| failure(Attempt::Retry(reason)))?;
    let (frames, outgoing) = mpsc::channel(UNANSWERED_MAX);
    let request = stream_request(ReceiverStream::new(outgoing), &tenant);
    let mut client = JobServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let limit = members.timing().attempt;
    let responses = match tokio::time::timeout(limit, client.enqueue_stream(request)).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(failure(Attempt::from_status(&status))),
        Err(_) => return Err(failure(Attempt::no_answer(limit, &address))),
    };
    Ok(Box::new(Connection {
        address,
        frames,
        responses,
        unanswered: BTreeMap::new(),
        sequence: 0,
        leaving: false,
    }))
}

impl Connection {
    /// May a frame with `jobs` jobs and `bytes` bytes go out now?
    pub(super) fn has_room_for(&self, jobs: usize, bytes: usize) -> bool {
        let unanswered_max = if jobs >= FRAME_JOBS_MAX || bytes >= FRAME_BYTES_MAX {
            UNANSWERED_MAX
        } else if jobs >= MEDIUM_JOBS {
            UNANSWERED_MEDIUM_MAX
        } else {
            1
        };
        !self.leaving && self.unanswered.len() < unanswered_max
    }

    /// Sends a frame. The tickets come back if the stream is gone.
    pub(super) fn send(&mut self, tickets: Vec<Ticket>, now: Instant) -> Result<(), Vec<Ticket>> {
        let jobs = tickets.iter().flat_map(Ticket::specs).collect();
        self.sequence += 1;
        if self
            .frames
            .try_send(v1::EnqueueStreamRequest {
                sequence: self.sequence,
                jobs,
            })
            .is_err()
        {
            return Err(tickets);
        }
        let tickets = tickets
            .into_iter()
            .map(|ticket| (ticket.jobs(), Some(ticket)))
            .collect();
        self.unanswered.insert(self.sequence, Frame { sent_at: now, tickets });
        Ok(())
    }

    /// The next response. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<v1::EnqueueStreamResponse>, Status> {
        self.responses.message().await
    }

    /// The tickets that a response answers, each with the number of its jobs.
    pub(super) fn take(&mut self, sequence: u64) -> Vec<(usize, Option<Ticket>)> {
        self.unanswered
            .remove(&sequence)
            .map(|frame| frame.tickets)
            .unwrap_or_default()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Has a frame been waiting for its answer since before `since`?
    pub(super) fn is_silent_since(&self, since: Instant) -> bool {
        self.unanswered
            .values()
            .next()
            .is_some_and(|frame| frame.sent_at < since)
    }

    /// Gives up the tickets whose deadline has come.
    pub(super) fn expire(&mut self, now: Instant) {
        for frame in self.unanswered.values_mut() {
            for (_, place) in &mut frame.tickets {
                if let Some(ticket) = place.take_if(|ticket| ticket.is_expired(now)) {
                    ticket.give_up(None, true);
                }
            }
        }
    }

    /// All unanswered tickets, oldest first.
    pub(super) fn into_unanswered(self) -> impl DoubleEndedIterator<Item = Ticket> {
        self.unanswered
            .into_values()
            .flat_map(|frame| frame.tickets)
            .filter_map(|(_, ticket)| ticket)
    }
}

/// The facts for callers whose stream ended without a word.
pub(super) fn stream_ended(address: &str) -> Attempt {
    Attempt::Unanswered(local(
        tonic::Code::Unavailable,
        "CONNECTION_BROKEN",
        format!("{address} ended the stream"),
    ))
}
