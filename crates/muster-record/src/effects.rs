//! What one entry brought about, in the words of a history.
//!
//! A second reading of an entry, made from what the core announced and answered; the checkers compare it with what
//! clients and workers saw.

use muster_core::{
    Applied, AttemptOutcome, AttemptReport, Command, Core, Event, JobId, JobSpec, JobState, Priority, Reply,
    ReportReply, RequestId,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{AcceptedJob, Claims, Counts, Effect, Enqueued, How, Id, ReportVerdict};

/// What a report says.
pub fn how(outcome: &AttemptOutcome) -> How {
    match outcome {
        AttemptOutcome::Succeeded { .. } => How::Succeeded,
        AttemptOutcome::Failed { retryable: false, .. } => How::FailedForGood,
        AttemptOutcome::Failed { retry_after, .. } => How::Failed {
            retry_after_ms: *retry_after,
        },
        AttemptOutcome::Preempted => How::Preempted,
        AttemptOutcome::Snoozed { .. } => How::Snoozed,
        AttemptOutcome::Cancelled => How::Cancelled,
        AttemptOutcome::Throttled { .. } => How::Throttled,
    }
}

/// Live jobs in the words of a history.
pub fn counts(live: &muster_core::LiveCounts) -> Counts {
    Counts {
        scheduled: live.scheduled,
        available: live.available,
        running: live.running,
        retrying: live.retrying,
        blocked: live.blocked,
    }
}

/// The answer to an enqueue in the words of a history.
pub fn enqueued(enqueued: &muster_core::Enqueued) -> Enqueued {
    Enqueued {
        job: enqueued.job.into(),
        existed: enqueued.existed,
        state: Some(enqueued.state),
    }
}

/// Effects of an entry that `core` has just applied: those of each command, then what came at the entry's end.
/// `repeat`: whether the administrative request at this position was done before, so that it has no effect.
/// `counted`: with the core's own counts.
pub fn effects(
    core: &Core,
    commands: &[Command],
    applied: &Applied,
    repeat: impl Fn(usize, RequestId) -> bool,
    counted: bool,
) -> Vec<Effect> {
    let mut effects = Vec::with_capacity(commands.len() + applied.events.len() * 2);
    let mut from = 0;
    let ends = applied.marks.iter().map(|mark| *mark as usize);
    for (position, ((command, reply), to)) in commands.iter().zip(&applied.replies).zip(ends).enumerate() {
        match command {
            Command::Once { request, .. } if repeat(position, *request) => {}
            Command::Once { command, .. } => command_effects(&mut effects, command, reply),
            _ => command_effects(&mut effects, command, reply),
        }
        let cause = Cause::of(command);
        for event in applied.events.get(from..to).unwrap_or_default() {
            event_effects(&mut effects, core, event, cause);
        }
        from = to;
    }
    for event in applied.events.get(from..).unwrap_or_default() {
        event_effects(&mut effects, core, event, Cause::of(&Command::Tick));
    }
    if counted {
        for tenant in core.tenants() {
            effects.push(Effect::Counted {
                tenant: tenant.name.clone(),
                live: counts(&tenant.live),
            });
        }
    }
    effects
}

/// What an event follows from that it does not tell itself.
#[derive(Clone, Copy)]
struct Cause {
    /// The reason for which this command takes leases back, if it does.
    why: How,
    /// The priority that it gives, if it does.
    priority: Option<Priority>,
}

impl Cause {
    fn of(command: &Command) -> Self {
        let why = match command {
            Command::CloseSession { .. } => How::Preempted,
            Command::LoseSession { .. } => How::Crashed,
            _ => How::TimedOut,
        };
        let priority = match command {
            Command::SetPriority { priority, .. } => Some(*priority),
            Command::Once { command, .. } => Self::of(command).priority,
            _ => None,
        };
        Self { why, priority }
    }
}

fn command_effects(effects: &mut Vec<Effect>, command: &Command, reply: &Reply) {
    match (command, reply) {
        (Command::Enqueue(spec), Reply::Enqueued(reply)) => accepted(effects, spec, None, reply),
        (Command::Redrive { spec, from }, Reply::Enqueued(reply)) => accepted(effects, spec, Some(*from), reply),
        (Command::EnqueueMany { jobs, .. }, Reply::EnqueuedMany(replies)) => {
            for (spec, reply) in jobs.iter().zip(replies) {
                if let Ok(reply) = reply {
                    accepted(effects, spec, None, reply);
                }
            }
        }
        (
            Command::Report {
                session,
                results,
                credit_total,
            },
            Reply::Reported(replies),
        ) => {
            effects.extend(
                results
                    .iter()
                    .zip(replies)
                    .map(|(report, reply)| reported(report, *reply)),
            );
            effects.push(Effect::Credits {
                session: (*session).into(),
                total: *credit_total,
            });
        }
        (Command::SetTenant { name, settings, .. }, Reply::Tenant(_)) => {
            effects.push(Effect::Quota {
                tenant: name.clone(),
                quota: settings.quota,
            });
            effects.push(Effect::Aging {
                tenant: name.clone(),
                aging: settings.aging,
            });
        }
        (Command::SetLimit(rule), Reply::Done) => effects.push(Effect::Limit((**rule).clone())),
        (Command::DeleteLimit(selector), Reply::Done) => effects.push(Effect::LimitGone(selector.clone())),
        (
            Command::PauseQueue {
                tenant, queue, paused, ..
            },
            Reply::Done,
        ) => effects.push(Effect::Paused {
            tenant: tenant.clone(),
            queue: queue.clone(),
            paused: *paused,
        }),
        (
            Command::PauseKind {
                tenant, kind, paused, ..
            },
            Reply::Done,
        ) => effects.push(Effect::KindPaused {
            tenant: tenant.clone(),
            kind: kind.clone(),
            paused: *paused,
        }),
        (Command::OpenSession(spec), Reply::Done) => effects.push(Effect::SessionOpened {
            session: spec.session.into(),
            accepts: Box::new(spec.class.clone()),
        }),
        (Command::QuietSession { session }, Reply::Done) => effects.push(Effect::SessionQuiet {
            session: (*session).into(),
        }),
        _ => {}
    }
}

fn accepted(effects: &mut Vec<Effect>, spec: &JobSpec, from: Option<JobId>, reply: &muster_core::Enqueued) {
    if reply.existed {
        return;
    }
    effects.push(Effect::Accepted(Box::new(AcceptedJob {
        job: reply.job.into(),
        tenant: spec.tenant.clone(),
        queue: spec.queue.clone(),
        kind: spec.kind.clone(),
        claims: Claims::of(spec),
        redrives: from.map(Id::from),
        state: reply.state,
        due: spec.available_at,
        max_attempts: spec.options.max_attempts,
        max_crashes: spec.options.max_crashes,
        backoff: spec.options.backoff.clone(),
        bytes: spec.bytes(),
        priority: spec.priority,
        version: spec.schema_version,
        attempt_timeout: spec.options.attempt_timeout,
        expires_in: spec.options.expires_in,
        required_labels: spec.options.required_labels.clone(),
        preferred_labels: spec.options.preferred_labels.clone(),
        slots: spec.options.slots,
    })));
}

fn reported(report: &AttemptReport, reply: ReportReply) -> Effect {
    Effect::Reported {
        job: report.job.into(),
        fence: report.lease.fence(),
        how: how(&report.outcome),
        verdict: match reply {
            ReportReply::Accepted(_) => ReportVerdict::Accepted,
            ReportReply::Repeated => ReportVerdict::Repeated,
            ReportReply::LeaseLost => ReportVerdict::LeaseLost,
        },
    }
}

fn event_effects(effects: &mut Vec<Effect>, core: &Core, event: &Event, cause: Cause) {
    match event {
        Event::Assigned(assignment) => effects.push(Effect::Granted {
            job: assignment.spec.id.into(),
            fence: assignment.lease.fence(),
            attempt: assignment.attempt,
            session: assignment.session.into(),
        }),
        Event::LeaseRevoked { job, lease, .. } => effects.push(Effect::Revoked {
            job: (*job).into(),
            fence: lease.fence(),
            why: cause.why,
        }),
        Event::JobChanged { job, state, .. } => {
            let id = Id::from(*job);
            effects.push(Effect::Entered { job: id, state: *state });
            if matches!(state, JobState::Retrying | JobState::Scheduled)
                && let Some(row) = core.job(*job).filter(|row| row.state == *state)
            {
                let until = row.available_at;
                effects.push(Effect::Waits { job: id, until });
            }
        }
        Event::JobEnded(row) => effects.push(Effect::Ended {
            job: row.spec.id.into(),
            state: row.state,
            attempts: row.attempts,
            failures: row.failures,
            crashes: row.crashes,
        }),
        Event::LimitClosed {
            tenant,
            name,
            until,
            throttled: true,
            ..
        } => {
            if let Some(tenant) = core.tenant(*tenant) {
                effects.push(Effect::Throttled {
                    tenant: tenant.name,
                    key: name.clone(),
                    until: *until,
                });
            }
        }
        Event::OrderReleased { job, .. } => effects.push(Effect::Released { job: (*job).into() }),
        Event::PriorityChanged { job, .. } => {
            effects.extend(cause.priority.map(|priority| Effect::Prioritised {
                job: (*job).into(),
                priority,
            }));
        }
        Event::SessionClosed { session, .. } => effects.push(Effect::SessionClosed {
            session: (*session).into(),
        }),
        Event::CancelAsked { .. }
        | Event::SessionOpened { .. }
        | Event::LimitClosed { .. }
        | Event::OrderHeld { .. }
        | Event::NodeChanged { .. }
        | Event::MembershipChange => {}
    }
}

/// Digest of an entry's bytes as they stand in the log.
pub fn digest(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}
