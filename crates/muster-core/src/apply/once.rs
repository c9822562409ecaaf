//! Administrative commands under a request id: done once, however often they arrive.

use super::{Core, Refusal, Reply};
use crate::command::Command;
use crate::defect::Defect;
use crate::hash::Effect;
use crate::ids::{LogIndex, RequestId};
use crate::requests::RequestRow;

impl Core {
    pub(super) fn once(
        &mut self,
        request: RequestId,
        fingerprint: u64,
        proposed_after: LogIndex,
        command: Command,
    ) -> Result<Reply, Refusal> {
        if self.has(Defect::RequestForgotten) {
            return Ok(self.command(command));
        }
        if let Some(done) = self.requests.find(request) {
            self.entry.repeat = true;
            return if done.fingerprint == fingerprint {
                Ok(done.reply.clone())
            } else {
                Err(Refusal::RequestReused { request })
            };
        }
        if proposed_after < self.requests.floor() {
            return Err(Refusal::RequestForgotten { request });
        }
        // What is idempotent by itself has its own memory, and a request in a request would have two.
        if !command.is_administrative() {
            return Err(Refusal::OutOfRange {
                field: "command".into(),
                value: "another command".into(),
                allowed: "an administrative command".into(),
            });
        }
        let reply = self.command(command);
        // A refusal is remembered as well: a late copy must not do what its caller was told is not done.
        self.effects.note(
            Effect::Requested,
            (request.0 >> 64) as u64 ^ request.0 as u64,
            fingerprint,
        );
        let position = self.entry.requests;
        self.entry.requests += 1;
        self.requests.remember(RequestRow {
            index: self.entry.index,
            position,
            request,
            fingerprint,
            reply: reply.clone(),
        });
        Ok(reply)
    }
}
