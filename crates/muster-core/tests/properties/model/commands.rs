//! What each command must be answered.

use muster_core::{
    AttemptOutcome, Command, Enqueued, JobId, JobSpec, JobState, LEVEL_MAX, LogIndex, Refusal, Reply, ReportReply,
    SessionId, TenantSettings,
};

use super::limits::Bucket;
use super::{Check, Job, Model, Session, Tenant};
use crate::facts::How;

/// What the shell knows and the model cannot: how far back the core remembers ended jobs and closed sessions.
#[derive(Clone, Copy)]
pub struct Answer {
    pub ended_floor: LogIndex,
    pub closed_floor: LogIndex,
}

fn expect(condition: bool, wanted: &str, reply: &impl std::fmt::Debug) -> Check {
    if condition {
        Ok(())
    } else {
        Err(format!("expected {wanted}, the core said {reply:?}"))
    }
}

/// Kind, version and payload: what makes two requests the same.
fn alike(a: &JobSpec, b: &JobSpec) -> bool {
    a.kind == b.kind && a.schema_version == b.schema_version && a.payload == b.payload
}

/// What an enqueue must say.
enum Verdict {
    New,
    Existed(JobId),
    Refused(fn(&Refusal) -> bool, &'static str),
}

impl Model {
    /// Checks the reply to one command and does to the model what the command says.
    pub fn command(&mut self, command: &Command, reply: &Reply, known: Answer) -> Check {
        match command {
            Command::Bootstrap { cluster } => {
                if self.cluster == 0 {
                    self.cluster = *cluster;
                }
                let same = self.cluster == *cluster;
                expect(
                    if same {
                        *reply == Reply::Done
                    } else {
                        matches!(reply, Reply::Refused(Refusal::OtherCluster { .. }))
                    },
                    if same { "Done" } else { "OtherCluster" },
                    reply,
                )
            }
            Command::Enqueue(spec) => {
                let answer = match reply {
                    Reply::Enqueued(enqueued) => Ok(*enqueued),
                    Reply::Refused(refusal) => Err(refusal.clone()),
                    other => return Err(format!("an enqueue was answered {other:?}")),
                };
                self.enqueue(spec, &answer, known, None)
            }
            Command::EnqueueMany { jobs, all_or_nothing } => self.enqueue_many(jobs, *all_or_nothing, reply, known),
            Command::Redrive { from, spec } => self.redrive(*from, spec, reply, known),
            Command::Cancel { tenant, job } => self.cancel(tenant, *job, reply, known),
            Command::OpenSession(spec) => {
                match self.session(spec.session).map(|session| session.open) {
                    Some(true) => return expect(*reply == Reply::Done, "Done", reply),
                    Some(false) => {
                        return expect(*reply == Reply::Refused(Refusal::SessionClosed), "SessionClosed", reply);
                    }
                    None => {}
                }
                if spec.proposed_after < known.closed_floor {
                    return expect(*reply == Reply::Refused(Refusal::SessionClosed), "SessionClosed", reply);
                }
                self.sessions.push(Session {
                    spec: (**spec).clone(),
                    credits: 0,
                    granted: 0,
                    gathers: None,
                    quiet: false,
                    open: true,
                    vouched_at: self.now,
                });
                expect(*reply == Reply::Done, "Done", reply)
            }
            Command::Report {
                session,
                results,
                credit_total,
            } => {
                let open = self.session(*session).is_some_and(|session| session.open);
                if !open && results.is_empty() {
                    return expect(*reply == Reply::Refused(Refusal::SessionClosed), "SessionClosed", reply);
                }
                let Reply::Reported(answers) = reply else {
                    return Err(format!("a report was answered {reply:?}"));
                };
                expect(answers.len() == results.len(), "one answer per result", reply)?;
                for (result, answer) in results.iter().zip(answers) {
                    self.report(result, *answer, known)?;
                }
                if let Some(session) = self
                    .sessions
                    .iter_mut()
                    .find(|held| held.spec.session == *session && held.open)
                {
                    session.credits = session.credits.max(*credit_total);
                }
                Ok(())
            }
            Command::QuietSession { session } => {
                if let Some(session) = self.sessions.iter_mut().find(|held| held.spec.session == *session) {
                    session.quiet = true;
                }
                self.done_or_closed(*session, reply)
            }
            Command::CloseSession { session } => self.end_session(*session, How::Uncounted, reply),
            Command::LoseSession { session } => self.end_session(*session, How::Crashed, reply),
            Command::Vouch { sessions } => {
                let now = self.now;
                for session in &mut self.sessions {
                    if session.open && sessions.contains(&session.spec.session) {
                        session.vouched_at = now;
                    }
                }
                expect(*reply == Reply::Done, "Done", reply)
            }
            Command::SetTenant {
                name,
                settings,
                create_only,
            } => self.set_tenant(name, settings, *create_only, reply),
            Command::PauseQueue {
                tenant, queue, paused, ..
            } => {
                if self.tenant(tenant).is_none() {
                    return expect(
                        matches!(reply, Reply::Refused(Refusal::UnknownTenant(_))),
                        "UnknownTenant",
                        reply,
                    );
                }
                let queue = (tenant.clone(), queue.clone());
                self.paused.retain(|other| *other != queue);
                if *paused {
                    self.paused.push(queue);
                }
                expect(*reply == Reply::Done, "Done", reply)
            }
            Command::SetQueueWeight { tenant, queue, weight } => {
                if self.tenant(tenant).is_none() {
                    return expect(
                        matches!(reply, Reply::Refused(Refusal::UnknownTenant(_))),
                        "UnknownTenant",
                        reply,
                    );
                }
                let queue = (tenant.clone(), queue.clone());
                self.weights.retain(|(other, _)| *other != queue);
                if *weight > 0 {
                    self.weights.push((queue, *weight));
                }
                expect(*reply == Reply::Done, "Done", reply)
            }
            Command::PauseKind {
                tenant, kind, paused, ..
            } => {
                if self.tenant(tenant).is_none() {
                    return expect(
                        matches!(reply, Reply::Refused(Refusal::UnknownTenant(_))),
                        "UnknownTenant",
                        reply,
                    );
                }
                let kind = (tenant.clone(), kind.clone());
                self.paused_kinds.retain(|other| *other != kind);
                if *paused {
                    self.paused_kinds.push(kind);
                }
                expect(*reply == Reply::Done, "Done", reply)
            }
            Command::SetPriority { tenant, jobs, priority } => {
                let Some(tenant) = self.tenant(tenant).map(|tenant| tenant.id) else {
                    return Err("jobs have tenants".to_owned());
                };
                let index = self.index;
                let mut changed = 0;
                for id in jobs {
                    let job = self.jobs.iter_mut().find(|job| job.spec.id == *id);
                    let Some(job) = job.filter(|job| job.is_live() && job.tenant == tenant) else {
                        continue;
                    };
                    changed += u32::from(job.spec.priority != *priority);
                    if job.spec.priority != *priority {
                        job.changed = index;
                    }
                    job.spec.priority = *priority;
                }
                expect(*reply == Reply::Prioritised { changed }, "Prioritised", reply)
            }
            Command::Tick => {
                self.tick();
                expect(*reply == Reply::Done, "Done", reply)
            }
            Command::SetLimit(rule) => {
                let tenants = &rule.selector.tenants;
                if !tenants.ends_with('*') && self.tenant(tenants).is_none() {
                    return expect(
                        matches!(reply, Reply::Refused(Refusal::UnknownTenant(_))),
                        "UnknownTenant",
                        reply,
                    );
                }
                self.change_rules(|rules| {
                    rules.retain(|other| other.selector != rule.selector);
                    rules.push((**rule).clone());
                });
                expect(*reply == Reply::Done, "Done", reply)
            }
            Command::DeleteLimit(selector) => {
                self.change_rules(|rules| rules.retain(|other| other.selector != *selector));
                expect(*reply == Reply::Done, "Done", reply)
            }
            Command::OpenKey { tenant, key } => {
                let open = |limiter: &super::Limiter| limiter.is_key(tenant, key);
                self.throttled.retain(|(limiter, _)| !open(limiter));
                expect(*reply == Reply::Done, "Done", reply)
            }
            Command::ReleaseOrder { tenant, queue, key } => {
                self.release(tenant, queue, key);
                expect(*reply == Reply::Done, "Done", reply)
            }
            Command::Once {
                request,
                fingerprint,
                command,
                ..
            } => {
                let known_request = self.requests.iter().find(|(id, ..)| id == request);
                if let Some((_, first, answer)) = known_request {
                    let wanted = if first == fingerprint {
                        answer.clone()
                    } else {
                        Reply::Refused(Refusal::RequestReused { request: *request })
                    };
                    return expect(*reply == wanted, "what it was answered the first time", reply);
                }
                self.command(command, reply, known)?;
                self.requests.push((*request, *fingerprint, reply.clone()));
                Ok(())
            }
            // Not part of these histories.
            Command::Cluster(_) => Ok(()),
            Command::SetLevel { level } => {
                if *level < self.level {
                    return expect(
                        matches!(reply, Reply::Refused(Refusal::LevelFalls { .. })),
                        "LevelFalls",
                        reply,
                    );
                }
                if *level > LEVEL_MAX {
                    return expect(
                        matches!(reply, Reply::Refused(Refusal::OutOfRange { .. })),
                        "OutOfRange",
                        reply,
                    );
                }
                self.level = *level;
                expect(*reply == Reply::Done, "Done", reply)
            }
        }
    }

    fn done_or_closed(&self, session: SessionId, reply: &Reply) -> Check {
        let open = self.session(session).is_some_and(|session| session.open);
        let closed = *reply == Reply::Refused(Refusal::SessionClosed);
        expect(*reply == Reply::Done || (!open && closed), "Done", reply)
    }

    fn end_session(&mut self, id: SessionId, how: How, reply: &Reply) -> Check {
        self.done_or_closed(id, reply)?;
        if let Some(session) = self.sessions.iter_mut().find(|held| held.spec.session == id) {
            session.open = false;
        }
        for at in 0..self.jobs.len() {
            if self.jobs[at].lease.is_some_and(|lease| lease.session == id) {
                self.end_lease(at, how, None);
            }
        }
        Ok(())
    }

    fn set_tenant(
        &mut self,
        name: &muster_core::Name,
        settings: &TenantSettings,
        create_only: bool,
        reply: &Reply,
    ) -> Check {
        let ages = settings.aging <= 31 * 86_400_000 || settings.aging == muster_core::AGING_STRICT;
        let guarantees = settings.guaranteed_slots <= 1_000_000;
        if !(1..=10_000).contains(&settings.weight) || !ages || !guarantees {
            return expect(
                matches!(reply, Reply::Refused(Refusal::OutOfRange { .. })),
                "OutOfRange",
                reply,
            );
        }
        if let Some(tenant) = self.tenants.iter_mut().find(|tenant| tenant.name == *name) {
            if create_only {
                return expect(
                    *reply == Reply::Refused(Refusal::TenantExists(name.clone())),
                    "TenantExists",
                    reply,
                );
            }
            tenant.set_enqueue_rate(settings.quota.enqueue_rate, self.now);
            tenant.settings = settings.clone();
            return expect(*reply == Reply::Tenant(tenant.id), "the tenant's id", reply);
        }
        let Reply::Tenant(id) = reply else {
            return Err(format!("a new tenant was answered {reply:?}"));
        };
        expect(
            self.tenants.iter().all(|tenant| tenant.id != *id),
            "an id of its own",
            reply,
        )?;
        self.tenants.push(Tenant {
            name: name.clone(),
            id: *id,
            settings: settings.clone(),
            enqueued: 0,
            started: 0,
            run_ms: 0,
            enqueue_rate: settings.quota.enqueue_rate.map(Bucket::new),
        });
        Ok(())
    }

    /// A job the core still knows: live, or ended not before the floor of its memory.
    fn known(&self, id: JobId, known: Answer) -> Option<&Job> {
        self.job(id)
            .filter(|job| job.ended.is_none_or(|index| index >= known.ended_floor))
    }

    /// Without a look at the quota.
    fn judge_but_quota(&self, spec: &JobSpec, known: Answer) -> Verdict {
        let Some(tenant) = self.tenant(&spec.tenant) else {
            return Verdict::Refused(|refusal| matches!(refusal, Refusal::UnknownTenant(_)), "UnknownTenant");
        };
        if let Some(first) = self.known(spec.id, known) {
            if first.tenant != tenant.id {
                return Verdict::Refused(|_| true, "a refusal");
            }
            if alike(&first.spec, spec) {
                return Verdict::Existed(spec.id);
            }
            return Verdict::Refused(
                |refusal| matches!(refusal, Refusal::Conflict { what, .. } if &**what == "id"),
                "Conflict by id",
            );
        }
        let holder = spec.idempotency_key.as_ref().and_then(|key| {
            self.jobs.iter().find(|job| {
                job.tenant == tenant.id
                    && job.spec.idempotency_key.as_ref() == Some(key)
                    && self.known(job.spec.id, known).is_some()
            })
        });
        match holder {
            Some(first) if alike(&first.spec, spec) => Verdict::Existed(first.spec.id),
            Some(_) => Verdict::Refused(
                |refusal| matches!(refusal, Refusal::Conflict { what, .. } if &**what == "idempotency_key"),
                "Conflict by idempotency_key",
            ),
            None if spec.history_searched < known.ended_floor => Verdict::Refused(
                |refusal| matches!(refusal, Refusal::SearchHistoryAgain { .. }),
                "SearchHistoryAgain",
            ),
            None if self.too_costly(spec) => Verdict::Refused(
                |refusal| matches!(refusal, Refusal::OutOfRange { field, .. } if field.ends_with("cost")),
                "OutOfRange of a cost",
            ),
            None => Verdict::New,
        }
    }

    fn judge(&self, spec: &JobSpec, known: Answer) -> Verdict {
        match self.judge_but_quota(spec, known) {
            Verdict::New if self.over_quota(spec, &[]) => Verdict::Refused(
                |refusal| matches!(refusal, Refusal::QuotaExceeded { .. }),
                "QuotaExceeded",
            ),
            verdict => verdict,
        }
    }

    fn enqueue(
        &mut self,
        spec: &JobSpec,
        answer: &Result<Enqueued, Refusal>,
        known: Answer,
        from: Option<JobId>,
    ) -> Check {
        match (self.judge(spec, known), answer) {
            (
                Verdict::New,
                Ok(Enqueued {
                    job,
                    state,
                    existed: false,
                }),
            ) if *job == spec.id => {
                self.accept(spec, from);
                let made = self.jobs.last().expect("just made");
                expect(made.is(*state), "the state of a new job", answer)
            }
            (
                Verdict::Existed(id),
                Ok(Enqueued {
                    job,
                    state,
                    existed: true,
                }),
            ) if *job == id => {
                let first = self.job(id).expect("known");
                expect(first.is(*state), &format!("{:?}", first.states), answer)
            }
            (Verdict::Refused(test, wanted), Err(refusal)) => expect(test(refusal), wanted, answer),
            (Verdict::New, _) => Err(format!("expected a new job, the core said {answer:?}")),
            (Verdict::Existed(id), _) => Err(format!("expected the existing job {id}, the core said {answer:?}")),
            (Verdict::Refused(_, wanted), _) => Err(format!("expected {wanted}, the core said {answer:?}")),
        }
    }

    fn accept(&mut self, spec: &JobSpec, redriven_from: Option<JobId>) {
        let now = self.now;
        let mut spec = spec.clone();
        spec.available_at = spec.available_at.max(now);
        let tenant = self.tenant(&spec.tenant).expect("judged").id;
        let order = self.place_of(&spec, redriven_from);
        let state = if spec.available_at > now {
            JobState::Scheduled
        } else if self.may_go(&spec, order) {
            JobState::Available
        } else {
            JobState::Blocked
        };
        self.tenant_of(tenant).enqueued += 1;
        self.take_enqueue_token(tenant);
        self.jobs.push(Job {
            tenant,
            states: vec![state],
            due: (spec.available_at, spec.available_at),
            order,
            enqueued_at: now,
            attempts: 0,
            failures: 0,
            crashes: 0,
            lease: None,
            leases: Vec::new(),
            cancel_asked: false,
            redriven_from,
            result: None,
            ended: None,
            changed: self.index,
            spec,
        });
    }

    fn enqueue_many(&mut self, jobs: &[JobSpec], all_or_nothing: bool, reply: &Reply, known: Answer) -> Check {
        let Reply::EnqueuedMany(answers) = reply else {
            // A tenant that does not exist may be told once for all.
            let nobody = jobs.iter().all(|spec| self.tenant(&spec.tenant).is_none());
            return expect(nobody && matches!(reply, Reply::Refused(_)), "EnqueuedMany", reply);
        };
        expect(answers.len() == jobs.len(), "one answer per job", reply)?;
        let refused = answers
            .iter()
            .position(|answer| matches!(answer, Err(refusal) if !matches!(refusal, Refusal::OtherItemRefused { .. })));
        let other = |answer: &Result<Enqueued, Refusal>| matches!(answer, Err(Refusal::OtherItemRefused { .. }));
        if !all_or_nothing || refused.is_none() {
            for (spec, answer) in jobs.iter().zip(answers) {
                self.enqueue(spec, answer, known, None)?;
            }
            return Ok(());
        }
        // None was accepted. Each refusal must be deserved, by what was there before or by an earlier item.
        let first = refused.unwrap_or_default();
        // Items that would be new, so that they count for the quota before those behind them.
        let mut new: Vec<&JobSpec> = Vec::new();
        // The same with those that the quota refuses: repeats of either bring nothing.
        let mut seen: Vec<&JobSpec> = Vec::new();
        for (at, (spec, answer)) in jobs.iter().zip(answers).enumerate() {
            let within = seen.iter().any(|earlier| {
                earlier.id == spec.id
                    || (earlier.idempotency_key.is_some() && earlier.idempotency_key == spec.idempotency_key)
            });
            let brings = !within && matches!(self.judge_but_quota(spec, known), Verdict::New);
            let over = brings && self.over_quota(spec, &new);
            if brings {
                seen.push(spec);
            }
            if brings && !over {
                new.push(spec);
            }
            if over {
                expect(
                    matches!(answer, Err(Refusal::QuotaExceeded { .. })),
                    "QuotaExceeded",
                    answer,
                )?;
                continue;
            }
            if other(answer) {
                expect(
                    *answer == Err(Refusal::OtherItemRefused { item: first as u32 }),
                    "the first refused item",
                    answer,
                )?;
                if let Verdict::Refused(_, wanted) = self.judge_but_quota(spec, known) {
                    return Err(format!("item {at} should be refused by itself: {wanted}"));
                }
                continue;
            }
            match (self.judge_but_quota(spec, known), answer) {
                (Verdict::Refused(test, wanted), Err(refusal)) => expect(test(refusal), wanted, answer)?,
                (_, Err(Refusal::Conflict { .. })) if within => {}
                (Verdict::Existed(id), Ok(Enqueued { job, existed: true, .. })) if *job == id => {}
                _ => return Err(format!("item {at} of a refused call was answered {answer:?}")),
            }
        }
        Ok(())
    }

    fn redrive(&mut self, from: JobId, spec: &JobSpec, reply: &Reply, known: Answer) -> Check {
        let answer = match reply {
            Reply::Enqueued(enqueued) => Ok(*enqueued),
            Reply::Refused(refusal) => Err(refusal.clone()),
            other => return Err(format!("a redrive was answered {other:?}")),
        };
        let Some(tenant) = self.tenant(&spec.tenant) else {
            return expect(answer.is_err(), "UnknownTenant", reply);
        };
        // A repeat gets the first job whatever became of the dead one.
        if self.known(spec.id, known).is_some() {
            return self.enqueue(spec, &answer, known, Some(from));
        }
        if let Some(old) = self.known(from, known)
            && (old.tenant != tenant.id || !old.is(JobState::Dead))
        {
            return expect(answer.is_err(), "a refusal", reply);
        }
        if self.job(from).is_some_and(|old| old.tenant != tenant.id) && answer.is_err() {
            return Ok(());
        }
        self.enqueue(spec, &answer, known, Some(from))
    }

    fn cancel(&mut self, tenant: &str, id: JobId, reply: &Reply, known: Answer) -> Check {
        let Some(owner) = self.tenant(tenant).map(|tenant| tenant.id) else {
            return expect(
                matches!(reply, Reply::Refused(Refusal::UnknownTenant(_))),
                "UnknownTenant",
                reply,
            );
        };
        let job = self
            .known(id, known)
            .filter(|job| job.tenant == owner)
            .map(|job| (job.is_live(), job.lease.is_some(), job.state()));
        match job {
            None => expect(*reply == Reply::Refused(Refusal::UnknownJob(id)), "UnknownJob", reply),
            Some((false, _, state)) => expect(*reply == Reply::Cancelled(state), "the job's end", reply),
            Some((true, true, _)) => {
                self.job_mut(id).cancel_asked = true;
                expect(*reply == Reply::Cancelled(JobState::Running), "Running", reply)
            }
            Some((true, false, _)) => {
                let at = self.jobs.iter().position(|job| job.spec.id == id).expect("known");
                self.finish(at, JobState::Cancelled);
                expect(*reply == Reply::Cancelled(JobState::Cancelled), "Cancelled", reply)
            }
        }
    }

    pub fn job_mut(&mut self, id: JobId) -> &mut Job {
        self.jobs.iter_mut().find(|job| job.spec.id == id).expect("known")
    }

    fn report(&mut self, report: &muster_core::AttemptReport, answer: ReportReply, known: Answer) -> Check {
        // The token decides, whichever session brings it: a worker may report what it did before it reconnected.
        let found = self
            .jobs
            .iter()
            .position(|job| job.spec.id == report.job && job.lease.is_some_and(|lease| lease.id == report.lease));
        let Some(at) = found else {
            // The last report taken of a job is recognised when it comes again; of older ones that is left open.
            let job = self.job(report.job);
            let taken = job.is_some_and(|job| {
                job.leases
                    .iter()
                    .any(|(lease, _, taken)| *lease == report.lease && *taken)
            });
            let last = job.is_some_and(|job| {
                let ended_by_it = job.is(JobState::Succeeded) || job.is(JobState::Dead);
                let remembered = job.ended.is_none_or(|index| ended_by_it && index >= known.ended_floor);
                let last = job.leases.last();
                remembered && last.is_some_and(|(lease, _, taken)| *lease == report.lease && *taken)
            });
            let allowed = match answer {
                ReportReply::Accepted(_) => false,
                ReportReply::Repeated => taken,
                ReportReply::LeaseLost => !last,
            };
            return expect(allowed, "the lease to be lost or the report known", &answer);
        };
        let (how, wait) = match &report.outcome {
            AttemptOutcome::Succeeded { result } => {
                self.jobs[at].result = Some(result.clone());
                (How::Succeeded, None)
            }
            AttemptOutcome::Failed { retryable: false, .. } => (How::FailedForGood, None),
            AttemptOutcome::Failed { retry_after, .. } => (How::Failed, (*retry_after != 0).then_some(*retry_after)),
            AttemptOutcome::Preempted => (How::Uncounted, None),
            AttemptOutcome::Snoozed { delay } => (How::Uncounted, Some(*delay)),
            AttemptOutcome::Throttled { key, retry_after } => {
                let job = &self.jobs[at];
                let carried = job.spec.options.limits.keys.iter().any(|own| own.key == *key);
                if carried {
                    let limiter = super::Limiter::key(&job.spec, key);
                    let until = self.now + retry_after;
                    self.throttle(limiter, until);
                }
                (How::Uncounted, (!carried).then_some(*retry_after))
            }
            AttemptOutcome::Cancelled if self.jobs[at].cancel_asked => (How::Cancelled, None),
            AttemptOutcome::Cancelled => (How::Failed, None),
        };
        if let Some(last) = self.jobs[at].leases.last_mut() {
            last.2 = true;
        }
        self.end_lease(at, how, wait);
        let job = &mut self.jobs[at];
        match answer {
            ReportReply::Accepted(state) if job.is(state) => {
                job.states = vec![state];
                Ok(())
            }
            _ => Err(format!("expected Accepted({:?}), the core said {answer:?}", job.states)),
        }
    }
}
