//! From records to tables.

use crate::facts::*;
use crate::history::*;

impl Facts {
    /// Takes in a record that stands on this line.
    pub fn see(&mut self, line: Line, record: Record) {
        self.records += 1;
        match record {
            Record::Invoke(invoke) => self.invoke(line, &invoke),
            Record::Complete(complete) => self.complete(line, complete),
            Record::Watched(watched) => {
                let change = Some((self.job_numbers.number(&watched.job), watched.state));
                let stream = (watched.process, watched.call);
                self.deliver(line, watched.at, stream, change, watched.index);
            }
            Record::Progress(progress) => {
                self.deliver(
                    line,
                    progress.at,
                    (progress.process, progress.call),
                    None,
                    progress.index,
                );
            }
            Record::Started(started) => self.started(line, &started),
            Record::Ended(ended) => self.ended(line, &ended),
            Record::Answered(answered) => self.answered(line, &answered),
            Record::Wrote(wrote) => self.writes.push(Write {
                stamp: Stamp { at: wrote.at, line },
                job: self.job_numbers.number(&wrote.job),
                fence: wrote.fence,
                accepted: wrote.accepted,
            }),
            Record::Leader(leader) => self.leaders.push((line, leader)),
            Record::Applied(applied) => self.applied(line, applied),
            Record::Fault(fault) => self.faults.push((line, fault)),
            Record::Healed { at } => self.healed = Some(at),
            Record::Job(job) => self.last_job(line, &job),
            Record::Tenant(tenant) => self.last.tenants.push((line, tenant)),
            Record::Queue(queue) => self.last.queues.push((line, queue)),
            Record::Node(node) => self.last.nodes.push((line, node)),
            Record::Scanned(scanned) => {
                self.last.scanned = Some((Stamp { at: scanned.at, line }, scanned.complete));
            }
        }
    }

    fn invoke(&mut self, line: Line, invoke: &Invoke) {
        let call = self.calls.len() as u32;
        let rows = match &invoke.operation {
            Operation::Enqueue(args) => (self.ask(call, args, false), 1),
            Operation::EnqueueMany { jobs, all_or_nothing } => {
                let first = self.asks.len() as u32;
                for args in jobs {
                    self.ask(call, args, *all_or_nothing);
                }
                (first, jobs.len() as u32)
            }
            Operation::Redrive { tenant, from, job } => {
                let none = self.name_numbers.number(&"".into());
                let ask = Ask {
                    call,
                    job: self.job_numbers.number(job),
                    tenant: self.name_numbers.number(tenant),
                    queue: none,
                    kind: none,
                    cost: 1,
                    limit_keys: (0, 0),
                    ordering: None,
                    key: None,
                    due: 0,
                    wait_min: 0,
                    attempt_timeout: 0,
                    expires_in: 0,
                    redrives: Some(self.job_numbers.number(from)),
                    whole: false,
                    end: End::Unknown,
                    answer: None,
                };
                self.asks.push(ask);
                (self.asks.len() as u32 - 1, 1)
            }
            Operation::Get { job, .. } | Operation::Wait { job, .. } => {
                let job = self.job_numbers.number(job);
                self.reads.push(Read { call, job, seen: None });
                (self.reads.len() as u32 - 1, 1)
            }
            Operation::Cancel { job, .. } => {
                let job = self.job_numbers.number(job);
                let state = None;
                self.cancels.push(Cancel { call, job, state });
                (self.cancels.len() as u32 - 1, 1)
            }
            Operation::SetPaused { tenant, queue, paused } => {
                self.pause(call, false, (tenant, queue), *paused);
                (self.pauses.len() as u32 - 1, 1)
            }
            Operation::SetKindPaused { tenant, kind, paused } => {
                self.pause(call, true, (tenant, kind), *paused);
                (self.pauses.len() as u32 - 1, 1)
            }
            Operation::SetLimit(rule) => {
                self.rules.push(RuleChange {
                    call,
                    selector: rule.selector.clone(),
                    rule: Some(rule.clone()),
                });
                (self.rules.len() as u32 - 1, 1)
            }
            Operation::DeleteLimit(selector) => {
                self.rules.push(RuleChange {
                    call,
                    selector: selector.clone(),
                    rule: None,
                });
                (self.rules.len() as u32 - 1, 1)
            }
            Operation::Watch { job, after, latest, .. } => {
                self.watches.push(Watch {
                    call,
                    stream: (invoke.process, invoke.call),
                    job: job.as_ref().map(|job| self.job_numbers.number(job)),
                    after: *after,
                    latest: *latest,
                });
                (self.watches.len() as u32 - 1, 1)
            }
            Operation::List { .. }
            | Operation::Stats { .. }
            | Operation::SetTenant { .. }
            | Operation::SetPriority { .. }
            | Operation::SetQueueWeight { .. }
            | Operation::ReleaseOrder { .. } => (0, 0),
        };
        self.open.insert((invoke.process, invoke.call), call);
        self.calls.push(Call {
            process: invoke.process,
            kind: invoke.operation.kind(),
            invoked: Stamp { at: invoke.at, line },
            completed: None,
            end: End::Unknown,
            index: None,
            rows,
        });
    }

    fn pause(&mut self, call: u32, of_kind: bool, (tenant, name): (&Name, &Name), paused: bool) {
        let what = (self.name_numbers.number(tenant), self.name_numbers.number(name));
        self.pauses.push(Pause {
            call,
            of_kind,
            what,
            paused,
        });
    }

    fn ask(&mut self, call: u32, args: &JobArgs, whole: bool) -> u32 {
        let wait_min = match args.backoff {
            Backoff::Fixed { delay } => delay,
            Backoff::Linear { base, cap } => base.min(cap),
            Backoff::Exponential {
                base,
                cap,
                jitter_percent,
            } => base.min(cap) / 100 * u64::from(100 - jitter_percent.min(100)),
        };
        let claims = &args.claims;
        let limit_keys = (self.limit_keys.len() as u32, claims.limit_keys.len() as u32);
        for (key, cost) in &claims.limit_keys {
            let key = self.name_numbers.number(key);
            self.limit_keys.push((key, *cost));
        }
        self.asks.push(Ask {
            call,
            job: self.job_numbers.number(&args.job),
            tenant: self.name_numbers.number(&args.tenant),
            queue: self.name_numbers.number(&args.queue),
            kind: self.name_numbers.number(&args.kind),
            cost: claims.cost,
            limit_keys,
            ordering: claims.ordering_key.as_ref().map(|key| self.name_numbers.number(key)),
            key: args.key.as_ref().map(|key| self.name_numbers.number(key)),
            due: args.available_at,
            wait_min,
            attempt_timeout: args.attempt_timeout,
            expires_in: args.expires_in,
            redrives: None,
            whole,
            end: End::Unknown,
            answer: None,
        });
        self.asks.len() as u32 - 1
    }

    fn complete(&mut self, line: Line, complete: Complete) {
        let Some(number) = self.open.remove(&(complete.process, complete.call)) else {
            return;
        };
        let end = match &complete.outcome {
            Outcome::Ok(_) => End::Ok,
            Outcome::Fail(_) => End::Fail,
            Outcome::Info(_) => End::Unknown,
        };
        let call = &mut self.calls[number as usize];
        call.completed = Some(Stamp { at: complete.at, line });
        call.end = end;
        call.index = complete.index;
        let (kind, (first, count)) = (call.kind, call.rows);
        let rows = first as usize..(first + count) as usize;
        if matches!(
            kind,
            OperationKind::Enqueue | OperationKind::EnqueueMany | OperationKind::Redrive
        ) {
            for ask in &mut self.asks[rows.clone()] {
                ask.end = end;
            }
        }
        if let Outcome::Ok(answer) = complete.outcome {
            self.answer(number, rows.start, answer);
        }
    }

    fn answer(&mut self, call: u32, first: usize, answer: Answer) {
        match answer {
            Answer::Enqueued(enqueued) => self.enqueued(first, Some(enqueued)),
            Answer::EnqueuedMany(items) => {
                for (at, item) in items.into_iter().enumerate() {
                    self.enqueued(first + at, item);
                }
            }
            Answer::Job(Some(seen)) => {
                if let Some(read) = self.reads.get_mut(first) {
                    read.seen = Some((seen.state, seen.attempts, seen.version));
                }
            }
            Answer::Jobs(jobs) => {
                for seen in jobs {
                    let job = self.job_numbers.number(&seen.job);
                    let seen = Some((seen.state, seen.attempts, seen.version));
                    self.reads.push(Read { call, job, seen });
                }
            }
            Answer::Cancelled(state) => {
                if let Some(cancel) = self.cancels.get_mut(first) {
                    cancel.state = Some(state);
                }
            }
            Answer::Done | Answer::Job(None) | Answer::Stats(_) => {}
        }
    }

    fn enqueued(&mut self, at: usize, item: Option<Enqueued>) {
        let answer = item.map(|item| (self.job_numbers.number(&item.job), item.existed, item.state));
        if let Some(ask) = self.asks.get_mut(at) {
            ask.answer = answer;
            if answer.is_none() {
                ask.end = End::Fail;
            }
        }
    }

    fn deliver(&mut self, line: Line, at: Micros, stream: (u32, u32), change: Option<(JobNo, JobState)>, index: u64) {
        self.watched.push(Delivery {
            stamp: Stamp { at, line },
            stream,
            change,
            index,
        });
    }

    fn attempt_row(&mut self, job: Id, fence: u64, worker: &Name) -> &mut Attempt {
        let job = self.job_numbers.number(&job);
        let next = self.attempts.len() as u32;
        let at = *self.attempt_of.entry((fence, job)).or_insert(next);
        if at == next {
            self.attempts.push(Attempt {
                job,
                fence,
                worker: self.name_numbers.number(worker),
                number: 0,
                started: None,
                started_again: None,
                ended: None,
                accepted: None,
                lost: None,
            });
        }
        &mut self.attempts[at as usize]
    }

    fn started(&mut self, line: Line, started: &Started) {
        let stamp = Stamp { at: started.at, line };
        let attempt = self.attempt_row(started.job, started.fence, &started.worker);
        attempt.number = started.attempt;
        if attempt.started.is_none() {
            attempt.started = Some(stamp);
        } else {
            attempt.started_again = Some(stamp);
        }
    }

    fn ended(&mut self, line: Line, ended: &Ended) {
        let attempt = self.attempt_row(ended.job, ended.fence, &ended.worker);
        let stamp = Stamp { at: ended.at, line };
        attempt.ended.get_or_insert((stamp, ended.how));
    }

    fn answered(&mut self, line: Line, answered: &Answered) {
        let attempt = self.attempt_row(answered.job, answered.fence, &answered.worker);
        let stamp = Stamp { at: answered.at, line };
        if answered.accepted {
            attempt.accepted.get_or_insert(stamp);
        } else {
            attempt.lost.get_or_insert(stamp);
        }
    }

    fn applied(&mut self, line: Line, mut applied: Applied) {
        let mut effects = std::mem::take(&mut applied.effects);
        for effect in &mut effects {
            self.share_names(effect);
        }
        match self.entries.get(&applied.index) {
            None => {
                let (at, now) = (applied.at, applied.now);
                self.entries.insert(applied.index, Entry { line, at, now, effects });
            }
            Some(entry) if entry.effects.is_empty() && !effects.is_empty() => {
                let (at, now) = (entry.at, applied.now);
                self.entries.insert(applied.index, Entry { line, at, now, effects });
            }
            Some(entry) => {
                if !effects.is_empty() && entry.effects != effects {
                    self.disputed.push((entry.line, line));
                }
            }
        }
        self.applied.push((line, applied));
    }

    /// Every line has its own copies of names; one of each is enough.
    fn share_names(&mut self, effect: &mut Effect) {
        let mut share = |name: &mut Name| {
            let number = self.name_numbers.number(name);
            if let Some(first) = self.name_numbers.get(number) {
                name.clone_from(first);
            }
        };
        match effect {
            Effect::Accepted(job) => {
                share(&mut job.tenant);
                share(&mut job.queue);
                share(&mut job.kind);
                job.claims.limit_keys.iter_mut().for_each(|(key, _)| share(key));
                let labels = job.required_labels.iter_mut().chain(&mut job.preferred_labels);
                for (label, value) in labels {
                    share(label);
                    share(value);
                }
            }
            Effect::Throttled { tenant, .. }
            | Effect::Counted { tenant, .. }
            | Effect::Quota { tenant, .. }
            | Effect::Aging { tenant, .. } => {
                share(tenant);
            }
            Effect::Paused {
                tenant, queue: name, ..
            }
            | Effect::KindPaused { tenant, kind: name, .. } => {
                share(tenant);
                share(name);
            }
            _ => {}
        }
    }

    fn last_job(&mut self, line: Line, job: &FinalJob) {
        let row = LastJob {
            line,
            job: self.job_numbers.number(&job.job),
            tenant: self.name_numbers.number(&job.tenant),
            queue: self.name_numbers.number(&job.queue),
            key: job.key.as_ref().map(|key| self.name_numbers.number(key)),
            state: job.state,
            counts: [job.attempts, job.failures, job.crashes],
            budgets: [job.max_attempts, job.max_crashes],
            redriven_from: job.redriven_from.as_ref().map(|from| self.job_numbers.number(from)),
        };
        self.last.jobs.push(row);
    }
}
