//! Limits: which rule applies, what was taken, who is held up by what.

use muster_core::{JobSpec, LimitLevel, LimitRule, Name, RateLimit, Timestamp};

use super::{Job, Model};

/// The limiter of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limiter {
    pub level: LimitLevel,
    pub tenant: Name,
    pub name: Name,
}

/// An exact token bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub rate: RateLimit,
    /// Theoretical arrival time in 1/count ms.
    pub arrival: u128,
    /// A job was, or may have been, refused until then; only a tick ends that. 0 = not.
    pub shut_until: Timestamp,
}

/// Whether something holds a job up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldUp {
    No,
    /// A rate that may be closed for a job that costs more.
    Perhaps,
    /// Certainly, until a time that comes by itself.
    ForAWhile,
    /// Certainly, until something happens.
    Certainly,
}

impl Bucket {
    pub fn new(rate: RateLimit) -> Self {
        Self {
            rate,
            arrival: 0,
            shut_until: 0,
        }
    }

    fn units(&self, at: Timestamp) -> u128 {
        u128::from(at) * u128::from(self.rate.count)
    }

    pub fn allows(&self, now: Timestamp, cost: u32) -> bool {
        let after = self.arrival.max(self.units(now)) + u128::from(cost) * u128::from(self.rate.period);
        after <= self.units(now) + u128::from(self.rate.burst) * u128::from(self.rate.period)
    }

    /// When it allows a start that it does not allow now.
    fn allows_at(&self, now: Timestamp, cost: u32) -> Timestamp {
        let mut at = now;
        let mut step = 1_u64 << 40;
        while step > 0 {
            if !self.allows(at + step - 1, cost) {
                at += step;
            }
            step /= 2;
        }
        at
    }

    pub fn take(&mut self, now: Timestamp, cost: u32) {
        self.arrival = self.arrival.max(self.units(now)) + u128::from(cost) * u128::from(self.rate.period);
    }

    pub fn ticked(&mut self, now: Timestamp) {
        if self.shut_until <= now {
            self.shut_until = 0;
        }
    }

    /// Tokens left.
    pub fn level(&self, now: Timestamp) -> u32 {
        (0..=self.rate.burst)
            .rev()
            .find(|cost| self.allows(now, *cost))
            .unwrap_or(0)
    }

    /// What was used of the old rate counts as as many tokens of the new one.
    pub fn converted(&self, rate: RateLimit, now: Timestamp) -> Self {
        let used = self.arrival.saturating_sub(self.units(now));
        let used = (used * u128::from(rate.period)).div_ceil(u128::from(self.rate.period));
        let mut new = Self::new(rate);
        if used > 0 {
            new.arrival = new.units(now) + used;
        }
        new
    }
}

impl Limiter {
    pub fn key(spec: &JobSpec, key: &Name) -> Self {
        Self {
            level: LimitLevel::Key,
            tenant: spec.tenant.clone(),
            name: key.clone(),
        }
    }

    pub fn is_key(&self, tenant: &Name, key: &Name) -> bool {
        self.level == LimitLevel::Key && self.tenant == *tenant && self.name == *key
    }
}

/// The limiters that a start of this job must pass, with what it takes.
pub fn limiters(spec: &JobSpec) -> Vec<(Limiter, u32)> {
    let limits = &spec.options.limits;
    let at = |level, tenant: &Name, name: &Name| Limiter {
        level,
        tenant: tenant.clone(),
        name: name.clone(),
    };
    let none: Name = "".into();
    let mut all = vec![
        (at(LimitLevel::Cluster, &none, &none), limits.cost),
        (at(LimitLevel::Tenant, &spec.tenant, &none), limits.cost),
        (at(LimitLevel::Queue, &spec.tenant, &spec.queue), limits.cost),
        (at(LimitLevel::Kind, &spec.tenant, &spec.kind), limits.cost),
    ];
    all.extend(limits.keys.iter().map(|key| (Limiter::key(spec, &key.key), key.cost)));
    all
}

impl Model {
    /// The rule for a name: exact before beginnings, longer before shorter, tenants before names.
    pub fn rule_for(&self, limiter: &Limiter) -> Option<&LimitRule> {
        fn rank(pattern: &str, name: &str) -> Option<(bool, usize)> {
            match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start).then_some((false, start.len())),
                None => (pattern == name).then_some((true, 0)),
            }
        }
        let ranked = self
            .rules
            .iter()
            .filter(|rule| rule.selector.level == limiter.level)
            .filter_map(|rule| {
                let tenants = rank(&rule.selector.tenants, &limiter.tenant)?;
                let names = rank(&rule.selector.names, &limiter.name)?;
                Some(((tenants, names), rule))
            });
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, rule)| rule)
    }

    pub fn change_rules(&mut self, change: impl FnOnce(&mut Vec<LimitRule>)) {
        change(&mut self.rules);
        let now = self.now;
        let old = std::mem::take(&mut self.buckets);
        for (limiter, bucket) in old {
            match self.rule_for(&limiter).and_then(|rule| rule.rate) {
                Some(rate) if rate == bucket.rate => self.buckets.push((limiter, bucket)),
                Some(rate) => {
                    let bucket = bucket.converted(rate, now);
                    self.buckets.push((limiter, bucket));
                }
                None => {}
            }
        }
    }

    pub fn throttle(&mut self, limiter: Limiter, until: Timestamp) {
        match self.throttled.iter_mut().find(|(other, _)| *other == limiter) {
            Some((_, known)) => *known = (*known).max(until),
            None => self.throttled.push((limiter, until)),
        }
    }

    /// The bucket of a limiter whose rule has a rate.
    pub fn bucket(&self, limiter: &Limiter) -> Option<Bucket> {
        let rate = self.rule_for(limiter)?.rate?;
        let known = self.buckets.iter().find(|(other, _)| other == limiter);
        Some(known.map_or_else(|| Bucket::new(rate), |(_, bucket)| bucket.clone()))
    }

    fn set_bucket(&mut self, limiter: Limiter, bucket: Bucket) {
        self.buckets.retain(|(other, _)| *other != limiter);
        self.buckets.push((limiter, bucket));
    }

    pub fn take_tokens(&mut self, spec: &JobSpec) {
        for (limiter, cost) in limiters(spec) {
            if let Some(mut bucket) = self.bucket(&limiter) {
                bucket.take(self.now, cost);
                self.set_bucket(limiter, bucket);
            }
        }
    }

    /// It costs more than the rules of now let it take at once.
    pub fn too_costly(&self, spec: &JobSpec) -> bool {
        limiters(spec).iter().any(|(limiter, cost)| {
            let rate = self.rule_for(limiter).and_then(|rule| rule.rate);
            rate.is_some_and(|rate| *cost > rate.burst)
        })
    }

    pub fn behind(&self, limiter: &Limiter, what: impl Fn(&Job) -> bool) -> usize {
        let jobs = self.jobs.iter().filter(|job| job.is_live() && what(job));
        jobs.filter(|job| limiters(&job.spec).iter().any(|(own, _)| own == limiter))
            .count()
    }

    /// The limit of the cluster lets nothing start, or may do so: a rate that was refused stays shut until a tick.
    pub fn cluster_may_be_closed(&self) -> bool {
        let cluster = Limiter {
            level: LimitLevel::Cluster,
            tenant: "".into(),
            name: "".into(),
        };
        let Some(rule) = self.rule_for(&cluster) else {
            return false;
        };
        let running = self.behind(&cluster, |job| job.lease.is_some());
        rule.rate.is_some() || (rule.concurrency != 0 && running >= rule.concurrency as usize)
    }

    /// What its limiters say to a start of this job now.
    pub fn held_up(&self, job: &Job) -> HeldUp {
        if self.too_costly(&job.spec) {
            return HeldUp::Certainly;
        }
        let held = |(limiter, cost): &(Limiter, u32)| {
            let rule = self.rule_for(limiter);
            let most = rule.map_or(0, |rule| rule.concurrency);
            if most != 0 && self.behind(limiter, |other| other.lease.is_some()) >= most as usize {
                return HeldUp::Certainly;
            }
            if self.throttled.iter().any(|(other, _)| other == limiter) {
                return HeldUp::ForAWhile;
            }
            let Some(bucket) = self.bucket(limiter) else {
                return HeldUp::No;
            };
            if !bucket.allows(self.now, *cost) {
                return HeldUp::ForAWhile;
            }
            let costlier = |other: &Job| {
                other.is(muster_core::JobState::Available)
                    && limiters(&other.spec).iter().any(|(own, cost)| {
                        own == limiter && *cost <= bucket.rate.burst && !bucket.allows(self.now, *cost)
                    })
            };
            if bucket.shut_until != 0 || self.behind(limiter, costlier) > 0 {
                return HeldUp::Perhaps;
            }
            HeldUp::No
        };
        limiters(&job.spec).iter().map(held).max().unwrap_or(HeldUp::No)
    }

    /// At the end of an entry: rates that may be closed until a tick, for a job that waits.
    pub fn note_shut(&mut self) {
        let now = self.now;
        let waiting: Vec<(Limiter, u32)> = self
            .jobs
            .iter()
            .filter(|job| job.is_live() && job.is(muster_core::JobState::Available))
            .flat_map(|job| limiters(&job.spec))
            .collect();
        for (limiter, cost) in waiting {
            let Some(mut bucket) = self.bucket(&limiter) else {
                continue;
            };
            if cost <= bucket.rate.burst && !bucket.allows(now, cost) {
                bucket.shut_until = bucket.shut_until.max(bucket.allows_at(now, cost));
                self.set_bucket(limiter, bucket);
            }
        }
    }
}
