//! Queues: list, pause, resume, weights.

use muster_core::{Command, Reply};
use muster_proto::v1;

use crate::api::{Api, Caller, unexpected};
use crate::errors::Error;
use crate::limits::{NOTE_BYTES_MAX, WEIGHT_MAX};
use crate::{convert, validate};

impl Api {
    pub(crate) async fn list_queues(
        &self,
        caller: Caller,
        request: v1::ListQueuesRequest,
    ) -> Result<v1::ListQueuesResponse, Error> {
        let read = self.begin_read(request.consistency, caller.deadline).await?;
        let tenant = self.tenant_of_read(&caller.tenant)?;
        let (queues, now) = self.raft().read(|core| (core.queues(tenant), core.meta().now));
        Ok(v1::ListQueuesResponse {
            queues: queues.iter().map(|queue| convert::queue(queue, now)).collect(),
            freshness: read.freshness(),
        })
    }

    pub(crate) async fn pause_queue(
        &self,
        caller: Caller,
        request: v1::PauseQueueRequest,
    ) -> Result<v1::PauseQueueResponse, Error> {
        self.set_paused(caller, &request.queue, true, &request.note).await?;
        Ok(v1::PauseQueueResponse {})
    }

    pub(crate) async fn resume_queue(
        &self,
        caller: Caller,
        request: v1::ResumeQueueRequest,
    ) -> Result<v1::ResumeQueueResponse, Error> {
        self.set_paused(caller, &request.queue, false, "").await?;
        Ok(v1::ResumeQueueResponse {})
    }

    pub(crate) async fn set_queue_weight(
        &self,
        caller: Caller,
        request: v1::SetQueueWeightRequest,
    ) -> Result<v1::SetQueueWeightResponse, Error> {
        let command = Command::SetQueueWeight {
            queue: validate::name("queue", &request.queue)?,
            weight: validate::number("weight", request.weight, 1, WEIGHT_MAX, 0)?,
            tenant: caller.tenant,
        };
        match self.propose_once(caller.request, command, caller.deadline).await? {
            Reply::Done => Ok(v1::SetQueueWeightResponse {}),
            other => Err(unexpected(&other)),
        }
    }

    async fn set_paused(&self, caller: Caller, queue: &str, paused: bool, note: &str) -> Result<(), Error> {
        let queue = validate::name("queue", queue)?;
        let note = validate::text("note", note, NOTE_BYTES_MAX)?;
        let command = Command::PauseQueue {
            tenant: caller.tenant,
            queue,
            paused,
            note,
        };
        match self.propose_once(caller.request, command, caller.deadline).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}
