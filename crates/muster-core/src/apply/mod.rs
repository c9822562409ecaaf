//! The one way in which the state changes.

mod assign;
mod cancel;
mod cluster;
#[cfg(test)]
mod cluster_tests;
mod enqueue;
mod kind;
mod level;
mod limit;
mod once;
mod order;
mod priority;
mod queue;
mod quota;
mod redrive;
mod refound;
mod report;
mod session;
mod tenant;
#[cfg(test)]
mod tests;
mod tick;

use crate::command::{Batch, Command};
use crate::core::{Core, Entry};
use crate::defect::Defect;
use crate::hash::Effect;
use crate::ids::{LogIndex, Timestamp};
use crate::reply::{Applied, Refusal, Reply};
use crate::row::EndedJob;

/// Ended jobs forgotten per entry, beyond as many as it added: bounds the pause after a quiet time.
const FORGET_MAX: usize = 2_000;

impl Core {
    /// Applies the log entry at `index`. Total: every command gets a reply. After the commands of the entry, waiting
    /// sessions are given jobs as far as credits, shares and limits go.
    pub fn apply(&mut self, index: LogIndex, batch: Batch) -> Applied {
        self.begin_entry(index);
        self.entry.events.reserve(batch.commands.len());
        self.meta.now = self.time_of(batch.stamped_at);
        let mut replies = Vec::with_capacity(batch.commands.len());
        let mut marks = Vec::with_capacity(batch.commands.len());
        for (position, command) in batch.commands.into_iter().enumerate() {
            replies.push(self.command(command));
            if std::mem::take(&mut self.entry.repeat) {
                self.entry.repeated.push(position as u32);
            }
            marks.push(self.entry.events.len() as u32);
        }
        self.note_answers(&replies);
        self.assign();
        self.forget_ended();
        self.compact_marks();
        self.end_entry();
        self.applied(replies, marks)
    }

    pub(crate) fn begin_entry(&mut self, index: LogIndex) {
        self.entry = Entry {
            index,
            ..Entry::default()
        };
        self.meta.applied = index;
        self.dirty.meta = true;
    }

    /// Brings the rolling hash up to date with the effects of the entry.
    pub(crate) fn end_entry(&mut self) {
        let before = self.meta.hash ^ self.meta.applied.rotate_left(32) ^ self.meta.now;
        self.meta.hash = self.effects.fold(before);
    }

    pub(crate) fn applied(&mut self, replies: Vec<Reply>, marks: Vec<u32>) -> Applied {
        Applied {
            replies,
            events: std::mem::take(&mut self.entry.events),
            marks,
            repeated: std::mem::take(&mut self.entry.repeated),
        }
    }

    /// Replicated time never goes back.
    fn time_of(&self, stamped_at: Timestamp) -> Timestamp {
        if self.has(Defect::ClockRunsBack) {
            return stamped_at;
        }
        let local = u64::from(self.has(Defect::LocalClock));
        self.meta.now.max(stamped_at + local)
    }

    fn command(&mut self, command: Command) -> Reply {
        let reply = match command {
            Command::Bootstrap { cluster } => self.bootstrap(cluster),
            Command::Enqueue(spec) => self.enqueue(*spec).map(Reply::Enqueued),
            Command::EnqueueMany { jobs, all_or_nothing } => Ok(self.enqueue_many(jobs, all_or_nothing)),
            Command::Cancel { tenant, job } => self.cancel(tenant, job).map(Reply::Cancelled),
            Command::Redrive { from, spec } => self.redrive(from, *spec).map(Reply::Enqueued),
            Command::OpenSession(spec) => self.open_session(*spec),
            Command::Report {
                session,
                results,
                credit_total,
            } => self.report(session, results, credit_total),
            Command::QuietSession { session } => Ok(self.quiet_session(session)),
            Command::CloseSession { session } => Ok(self.end_session(session, session::End::Closed)),
            Command::LoseSession { session } => Ok(self.end_session(session, session::End::Lost)),
            Command::Vouch { sessions } => Ok(self.vouch(sessions)),
            Command::SetTenant {
                name,
                settings,
                create_only,
            } => self.set_tenant(name, settings, create_only),
            Command::PauseQueue {
                tenant,
                queue,
                paused,
                note,
            } => self.pause_queue(tenant, queue, paused, note),
            Command::Tick => Ok(self.tick()),
            Command::SetLimit(rule) => self.set_limit(*rule),
            Command::DeleteLimit(selector) => Ok(self.delete_limit(selector)),
            Command::OpenKey { tenant, key } => self.open_key(tenant, key),
            Command::ReleaseOrder { tenant, queue, key } => self.release_order(tenant, queue, key),
            Command::Once {
                request,
                fingerprint,
                proposed_after,
                command,
            } => self.once(request, fingerprint, proposed_after, *command),
            Command::Cluster(command) => self.cluster_command(*command),
            Command::SetLevel { level } => self.set_level(level),
            Command::PauseKind {
                tenant,
                kind,
                paused,
                note,
            } => self.pause_kind(tenant, kind, paused, note),
            Command::SetQueueWeight { tenant, queue, weight } => self.set_queue_weight(tenant, queue, weight),
            Command::SetPriority { tenant, jobs, priority } => self.set_priority(tenant, &jobs, priority),
        };
        reply.unwrap_or_else(Reply::Refused)
    }

    fn bootstrap(&mut self, cluster: u128) -> Result<Reply, Refusal> {
        if self.meta.cluster != 0 && self.meta.cluster != cluster {
            return Err(Refusal::OtherCluster {
                expected: cluster,
                actual: self.meta.cluster,
            });
        }
        self.meta.cluster = cluster;
        self.effects
            .note(Effect::Bootstrap, (cluster >> 64) as u64, cluster as u64);
        Ok(Reply::Done)
    }

    /// Forgets ended jobs that are too old or too many.
    fn forget_ended(&mut self) {
        let mut budget = FORGET_MAX + 2 * self.entry.ended;
        while budget > 0 && self.ended.overdue(self.meta.now) {
            let Some((index, jobs, written)) = self.ended.forget_oldest() else {
                break;
            };
            budget = budget.saturating_sub(jobs.len());
            self.meta.ended_floor = index.saturating_add(1);
            if written {
                self.dirty.ended_deleted.push(index);
            }
            self.effects.note(Effect::Forgotten, index, jobs.len() as u64);
            for job in jobs {
                self.forget(job);
            }
        }
    }

    fn forget(&mut self, ended: EndedJob) {
        self.ids.remove(&ended.job);
        if let Some(key) = ended.idempotency_key {
            let key = ((ended.tenant.0 - 1) as u32, key);
            // A redriven job may have taken the key over.
            if self.keys.get(&key) == Some(&ended.job) {
                self.keys.remove(&key);
            }
        }
    }
}

/// A value out of its range.
fn out_of_range(field: &str, value: impl ToString, allowed: &str) -> Refusal {
    Refusal::OutOfRange {
        field: field.into(),
        value: value.to_string().into(),
        allowed: allowed.into(),
    }
}
