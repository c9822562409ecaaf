//! The whole state of the core, as its readers show it, beside the model's.

use muster_core::{Core, JobFilter, JobRow, JobState, LiveCounts, Row, TenantId};

use super::{Check, Job, Model};

/// Live jobs by state in the order of [`LiveCounts`].
pub fn by_state(states: impl Iterator<Item = JobState>) -> [u64; 5] {
    let mut counts = [0; 5];
    for state in states {
        match state {
            JobState::Scheduled => counts[0] += 1,
            JobState::Available => counts[1] += 1,
            JobState::Running => counts[2] += 1,
            JobState::Retrying => counts[3] += 1,
            JobState::Blocked => counts[4] += 1,
            _ => {}
        }
    }
    counts
}

/// Counters of the core as an array.
pub fn counters(live: LiveCounts) -> [u64; 5] {
    [
        live.scheduled,
        live.available,
        live.running,
        live.retrying,
        live.blocked,
    ]
}

impl Model {
    /// Settles what the rules left open: by a job's row, or by its lease if it got one in the same entry.
    pub fn settle(&mut self, core: &Core) -> Check {
        for job in self.jobs.iter_mut().filter(|job| job.ended.is_none()) {
            let Some(row) = core.job(job.spec.id) else {
                return Err(format!("job {} is gone", job.spec.id));
            };
            if job.due.0 != job.due.1 {
                let (least, most) = job.due;
                if row.available_at < least || row.available_at > most {
                    return Err(format!(
                        "job {} may start at {}, not in {least}..={most}",
                        row.spec.id, row.available_at
                    ));
                }
                job.due = (row.available_at, row.available_at);
            }
            if job.states.len() > 1 {
                let started = row.state == JobState::Running && job.is(JobState::Available);
                let state = if started { JobState::Available } else { row.state };
                if !job.is(state) {
                    return Err(format!(
                        "job {} is {:?}, not one of {:?}",
                        row.spec.id, row.state, job.states
                    ));
                }
                job.states = vec![state];
            }
        }
        Ok(())
    }

    /// Compares everything that can be read.
    pub fn compare(&self, core: &Core) -> Check {
        if core.meta().now != self.now || core.meta().applied != self.index || core.meta().cluster != self.cluster {
            return Err(format!("meta is {:?}", core.meta()));
        }
        for job in &self.jobs {
            match core.job(job.spec.id) {
                Some(row) if job.is_live() => same_job(job, &row)?,
                None if !job.is_live() => {}
                found => {
                    return Err(format!(
                        "job {} is {:?}, the core has {found:?}",
                        job.spec.id, job.states
                    ));
                }
            }
        }
        let all = by_state(self.jobs.iter().filter(|job| job.is_live()).map(Job::state));
        if counters(core.live()) != all {
            return Err(format!("{:?} live jobs, the model has {all:?}", core.live()));
        }
        if core.tenants().len() != self.tenants.len() {
            return Err(format!(
                "{} tenants, the model has {}",
                core.tenants().len(),
                self.tenants.len()
            ));
        }
        for tenant in &self.tenants {
            self.same_tenant(core, tenant)?;
            self.same_quota(core, tenant)?;
            self.same_lists(core, tenant.id)?;
        }
        self.same_limits(core)?;
        self.same_orders(core)?;
        self.same_kinds(core)?;
        self.same_explanations(core)?;
        self.same_sessions(core)
    }

    fn same_tenant(&self, core: &Core, tenant: &super::Tenant) -> Check {
        let Some(view) = core
            .tenant(tenant.id)
            .filter(|_| core.tenant_id(&tenant.name) == Some(tenant.id))
        else {
            return Err(format!("tenant {} is gone", tenant.name));
        };
        let mine = || self.jobs.iter().filter(|job| job.tenant == tenant.id);
        let ended = |state| mine().filter(|job| job.is(state) && !job.is_live()).count() as u64;
        let totals = view.totals;
        let seen = [
            totals.enqueued,
            totals.started,
            totals.succeeded,
            totals.dead,
            totals.cancelled,
            totals.expired,
        ];
        let wanted = [
            tenant.enqueued,
            tenant.started,
            ended(JobState::Succeeded),
            ended(JobState::Dead),
            ended(JobState::Cancelled),
            ended(JobState::Expired),
        ];
        let slots = self.running_slots(tenant.id);
        if seen != wanted || view.running_slots != slots || view.settings != tenant.settings {
            return Err(format!("tenant {}: {view:?}, the model has {wanted:?}", tenant.name));
        }
        let failures: u64 = mine().map(|job| u64::from(job.failures)).sum();
        let crashes: u64 = mine().map(|job| u64::from(job.crashes)).sum();
        // Whether the end of a job whose cancel was asked for counts as a failure too is left open.
        let open = mine().filter(|job| job.cancel_asked && !job.is_live()).count() as u64;
        let near = |seen: u64, wanted: u64| seen <= wanted + open && wanted <= seen + open;
        if !near(totals.failures, failures) || !near(totals.crashes, crashes) {
            return Err(format!(
                "tenant {}: {totals:?}, the model has {failures} failures, {crashes} crashes",
                tenant.name
            ));
        }
        if totals.run_ms != tenant.run_ms {
            return Err(format!(
                "tenant {}: {} ms of run time, the model has {}",
                tenant.name, totals.run_ms, tenant.run_ms
            ));
        }
        Ok(())
    }

    fn same_lists(&self, core: &Core, tenant: TenantId) -> Check {
        let mut queues: Vec<_> = core.queues(tenant).into_iter().map(|view| view.name.clone()).collect();
        queues.dedup();
        for view in core.queues(tenant) {
            let of_queue = |job: &&Job| job.tenant == tenant && job.is_live() && job.spec.queue == view.name;
            let jobs: Vec<_> = self.jobs.iter().filter(of_queue).collect();
            let paused = self
                .paused
                .iter()
                .any(|(name, queue)| *queue == view.name && self.tenant(name).is_some_and(|found| found.id == tenant));
            let owner = self.tenants.iter().find(|found| found.id == tenant);
            let weight = owner.map_or(0, |owner| self.weight_of(&owner.name, &view.name));
            let waiting = || jobs.iter().filter(|job| job.state() == JobState::Available);
            let oldest = waiting().map(|job| job.due.0).min().unwrap_or(0);
            let unroutable = |takes: fn(&super::Session) -> bool| {
                let sessions: Vec<_> = self
                    .sessions
                    .iter()
                    .filter(|session| session.open && takes(session))
                    .collect();
                waiting()
                    .filter(|job| !sessions.iter().any(|session| job.matches(&session.spec.class)))
                    .count() as u64
            };
            let (least, most) = (unroutable(|_| true), unroutable(|session| !session.quiet));
            let live = by_state(jobs.iter().map(|job| job.state()));
            if counters(view.live) != live
                || view.paused != paused
                || view.weight != weight
                || view.oldest_available_at != oldest
            {
                return Err(format!(
                    "queue {view:?}: the model has {live:?}, paused {paused}, oldest {oldest}"
                ));
            }
            if !(least..=most).contains(&view.unroutable) {
                return Err(format!("queue {view:?}: the model has {least} to {most} unroutable"));
            }
        }
        for job in self.jobs.iter().filter(|job| job.tenant == tenant && job.is_live()) {
            if !queues.contains(&job.spec.queue) {
                return Err(format!("queue {} is missing", job.spec.queue));
            }
        }
        // By pages of two, with a filter, newest id first.
        for states in [vec![], vec![JobState::Available, JobState::Retrying]] {
            let filter = JobFilter {
                queue: queues.first().cloned().filter(|_| !states.is_empty()),
                kind: None,
                states,
            };
            let wants = |job: &&Job| {
                job.tenant == tenant
                    && job.is_live()
                    && filter.queue.as_ref().is_none_or(|queue| *queue == job.spec.queue)
                    && (filter.states.is_empty() || filter.states.contains(&job.state()))
            };
            let mut wanted: Vec<_> = self.jobs.iter().filter(wants).map(|job| job.spec.id).collect();
            wanted.sort_by(|a, b| b.cmp(a));
            let (mut found, mut before) = (Vec::new(), None);
            for _ in 0..10_000 {
                let (page, next) = core.jobs(tenant, &filter, before, 2, 3);
                if page.len() > 2 {
                    return Err(format!("a page of 2 holds {}", page.len()));
                }
                found.extend(page.iter().map(|row| row.spec.id));
                before = next;
                if before.is_none() {
                    break;
                }
            }
            if found != wanted {
                return Err(format!("list {filter:?} gave {found:?}, the model has {wanted:?}"));
            }
        }
        Ok(())
    }

    fn same_limits(&self, core: &Core) -> Check {
        let mut rules = self.rules.clone();
        rules.sort_by(|a, b| a.selector.cmp(&b.selector));
        if core.limits() != rules {
            return Err(format!("rules {:?}, the model has {rules:?}", core.limits()));
        }
        let mut limiters: Vec<_> = self
            .jobs
            .iter()
            .flat_map(|job| super::limits::limiters(&job.spec))
            .collect();
        limiters.sort_by(|(a, _), (b, _)| (a.level, &a.tenant, &a.name).cmp(&(b.level, &b.tenant, &b.name)));
        limiters.dedup_by(|(a, _), (b, _)| a == b);
        for (limiter, _) in limiters {
            let tenant = self.tenant(&limiter.tenant).map_or(TenantId(1), |tenant| tenant.id);
            let Some(view) = core.limiter(limiter.level, tenant, &limiter.name, 3) else {
                return Err(format!("no limiter {limiter:?}"));
            };
            let running = self.behind(&limiter, |job| job.lease.is_some()) as u64;
            let waiting = self.behind(&limiter, |job| job.state() == JobState::Available) as u64;
            let rule = self.rule_for(&limiter);
            let most = rule.map_or(0, |rule| u64::from(rule.concurrency));
            let tokens = self.bucket(&limiter).map(|bucket| bucket.level(self.now));
            let throttled = self.throttled.iter().find(|(other, _)| *other == limiter);
            let same = view.rules.first() == rule
                && (view.running, view.waiting, view.tokens) == (running, waiting, tokens)
                && view.full == (most != 0 && running >= most)
                && view.throttled_until == throttled.map_or(0, |(_, until)| *until);
            if !same {
                return Err(format!(
                    "{limiter:?} is {view:?}; the model has {rule:?}, {running} running, {waiting} waiting, \
                     {tokens:?} tokens, throttled {throttled:?}"
                ));
            }
            let holders = core.holders(limiter.level, tenant, &limiter.name, None, 1_000, 1_000).0;
            if holders.len() as u64 != running {
                return Err(format!("{limiter:?} is held by {holders:?}, the model has {running}"));
            }
        }
        Ok(())
    }

    fn same_kinds(&self, core: &Core) -> Check {
        for tenant in &self.tenants {
            let shown = core.kinds(tenant.id, "", 100);
            let paused: Vec<_> = shown
                .iter()
                .filter(|kind| kind.paused.is_some())
                .map(|kind| &kind.name)
                .collect();
            let mut wanted: Vec<_> = self
                .paused_kinds
                .iter()
                .filter(|(of, _)| *of == tenant.name)
                .map(|(_, kind)| kind)
                .collect();
            wanted.sort();
            if paused != wanted {
                return Err(format!("paused kinds {paused:?}, the model has {wanted:?}"));
            }
            for kind in &shown {
                let of_kind = || {
                    self.jobs
                        .iter()
                        .filter(|job| job.tenant == tenant.id && job.is_live() && job.spec.kind == kind.name)
                };
                let running = of_kind().filter(|job| job.lease.is_some()).count() as u64;
                let available = of_kind().filter(|job| job.state() == JobState::Available).count() as u64;
                if (kind.running, kind.available) != (running, available) {
                    return Err(format!(
                        "{kind:?}; the model has {running} running, {available} available"
                    ));
                }
            }
            let groups = core.unroutable_of(tenant.id, 0, 1_000).0;
            let told: u64 = groups.iter().map(|group| group.jobs).sum();
            let lost = |job: &&Job| {
                job.tenant == tenant.id
                    && job.is_live()
                    && job.state() == JobState::Available
                    && !self
                        .sessions
                        .iter()
                        .any(|session| session.open && job.matches(&session.spec.class))
            };
            let wanted = self.jobs.iter().filter(lost).count() as u64;
            if told != wanted {
                return Err(format!("{groups:?} are unroutable, the model has {wanted}"));
            }
        }
        Ok(())
    }

    fn same_orders(&self, core: &Core) -> Check {
        for tenant in &self.tenants {
            for queue in core.queues(tenant.id) {
                let mut held: Vec<_> = self
                    .holds
                    .iter()
                    .filter(|hold| hold.group.tenant == tenant.name && hold.group.queue == queue.name)
                    .map(|hold| (hold.group.key.clone(), Some(hold.job)))
                    .collect();
                held.sort();
                let shown = core.held_orders(tenant.id, &queue.name, "", 100);
                let shown: Vec<_> = shown.into_iter().map(|order| (order.key, order.held_by)).collect();
                if shown != held {
                    return Err(format!("held keys {shown:?}, the model has {held:?}"));
                }
            }
        }
        for hold in &self.holds {
            let tenant = self.tenant(&hold.group.tenant).map_or(TenantId(0), |tenant| tenant.id);
            if core.order(tenant, &hold.group.queue, &hold.group.key).is_none() {
                return Err(format!("the hold by {} is gone", hold.job));
            }
        }
        Ok(())
    }

    fn same_sessions(&self, core: &Core) -> Check {
        let mut open: Vec<_> = self.sessions.iter().filter(|session| session.open).collect();
        open.sort_by_key(|session| session.spec.session);
        let views = core.sessions();
        if views.len() != open.len() {
            return Err(format!(
                "{} sessions are open, the model has {}",
                views.len(),
                open.len()
            ));
        }
        for (view, session) in views.iter().zip(open) {
            let held = self
                .jobs
                .iter()
                .filter(|job| job.lease.is_some_and(|lease| lease.session == session.spec.session));
            let row = &view.row;
            let same = row.spec == session.spec
                && row.credit_total == session.credits
                && row.granted_total == session.granted
                && row.quiet == session.quiet
                && row.vouched_at == session.vouched_at
                && view.running as usize == held.count();
            if !same {
                return Err(format!(
                    "session {view:?}: the model has credits {}, granted {}, quiet {}",
                    session.credits, session.granted, session.quiet
                ));
            }
        }
        Ok(())
    }

    /// The memory of lately ended jobs holds all that ended since its floor, and nothing is forgotten too early.
    pub fn compare_memory(&self, rows: &[Row], floor: u64, ended_at: impl Fn(u64) -> u64) -> Check {
        let mut remembered: Vec<_> = rows
            .iter()
            .filter_map(|row| if let Row::Ended(row) = row { Some(row) } else { None })
            .flat_map(|row| row.jobs.iter().map(|ended| (row.index, ended.job, ended.state)))
            .collect();
        let mut wanted: Vec<_> = self
            .jobs
            .iter()
            .filter_map(|job| {
                job.ended
                    .filter(|index| *index >= floor)
                    .map(|index| (index, job.spec.id, job.state()))
            })
            .collect();
        remembered.sort_unstable();
        wanted.sort_unstable();
        if remembered != wanted {
            return Err(format!(
                "ended jobs remembered {remembered:?}, the model has {wanted:?} from {floor}"
            ));
        }
        let too_early = self
            .jobs
            .iter()
            .filter_map(|job| job.ended)
            .find(|index| *index < floor && ended_at(*index) + 60_000 > self.now);
        match too_early {
            Some(index) => Err(format!("the end at index {index} was forgotten within 60 s")),
            None => Ok(()),
        }
    }
}

fn same_job(job: &Job, row: &JobRow) -> Check {
    let mut faults = Vec::new();
    let mut same = |what: &str, equal: bool| {
        if !equal {
            faults.push(what.to_owned());
        }
    };
    same("spec", *row.spec == job.spec);
    same("tenant", row.tenant == job.tenant);
    same("state", row.state == job.state());
    same("enqueued_at", row.enqueued_at == job.enqueued_at);
    same("available_at", row.available_at == job.due.0);
    same("attempts", row.attempts == job.attempts);
    same("failures", row.failures == job.failures);
    same("crashes", row.crashes == job.crashes);
    same("ended_at", row.ended_at == 0);
    same("redriven_from", row.redriven_from == job.redriven_from);
    same("changed_index", row.changed_index >= job.changed);
    same("cancel_asked", row.cancel_asked == job.cancel_asked);
    let lease = row.lease.map(|lease| (lease.id, lease.session, lease.deadline));
    same(
        "lease",
        lease == job.lease.map(|lease| (lease.id, lease.session, lease.deadline)),
    );
    if let Some(lease) = job.lease {
        same("started_at", row.started_at == lease.since);
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "{} differ: {row:?}; the model has {:?}, due {:?}",
            faults.join(", "),
            job.states,
            job.due
        ))
    }
}
