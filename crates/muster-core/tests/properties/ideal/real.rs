//! The core with workers, and how far it is from the ideal.

use std::collections::BTreeMap;

use muster_core::{
    AttemptOutcome, AttemptReport, Batch, Command, Core, Event, JobId, LeaseId, SessionId, TenantSettings,
};

use super::fluid::{Arrival, Fleet, Ideal, Service};
use crate::plain::{plain_job, plain_session};

const START: u64 = 1_700_000_000_000;
const QUEUES: [&str; 2] = ["mail", "media"];

/// The core, with workers that do what they get.
struct Real {
    core: Core,
    index: u64,
    credits: Vec<u64>,
    /// By the time of their end: lease, worker, arrival, start.
    running: BTreeMap<(u64, u128), (LeaseId, usize, u64)>,
    /// Of ended attempts.
    service: Service,
}

impl Real {
    fn new(fleet: &Fleet, core: Core) -> Self {
        let mut real = Self {
            core,
            index: 0,
            credits: fleet.workers.iter().map(|slots| u64::from(*slots)).collect(),
            running: BTreeMap::new(),
            service: Service::new(),
        };
        let mut commands = Vec::new();
        for (tenant, weight) in fleet.weights.iter().enumerate() {
            let name = format!("tenant-{tenant}").as_str().into();
            commands.push(Command::SetTenant {
                name,
                settings: TenantSettings {
                    weight: *weight,
                    guaranteed_slots: fleet.guarantees[tenant],
                    ..TenantSettings::default()
                },
                create_only: true,
            });
            commands.push(Command::SetQueueWeight {
                tenant: format!("tenant-{tenant}").as_str().into(),
                queue: QUEUES[1].into(),
                weight: fleet.queue_weight,
            });
        }
        for (worker, slots) in fleet.workers.iter().enumerate() {
            let hello = plain_session(SessionId(worker as u128), *slots);
            commands.push(Command::OpenSession(Box::new(hello)));
            commands.push(real.report(worker, vec![]));
        }
        real.apply(START, commands, &[]);
        real
    }

    fn report(&self, worker: usize, results: Vec<AttemptReport>) -> Command {
        Command::Report {
            session: SessionId(worker as u128),
            results,
            credit_total: self.credits[worker],
        }
    }

    fn apply(&mut self, now: u64, commands: Vec<Command>, arrivals: &[Arrival]) {
        self.index += 1;
        let applied = self.core.apply(
            self.index,
            Batch {
                stamped_at: now,
                commands,
            },
        );
        for event in applied.events {
            if let Event::Assigned(given) = event {
                let job = given.spec.id.0;
                let end = now + arrivals[job as usize].run;
                self.running
                    .insert((end, job), (given.lease, given.session.0 as usize, now));
            }
        }
    }

    /// No worker runs more than it has slots for.
    fn nobody_is_overloaded(&self, arrivals: &[Arrival], fleet: &Fleet) -> bool {
        let mut taken = vec![0; fleet.workers.len()];
        for ((_, job), (_, worker, _)) in &self.running {
            taken[*worker] += arrivals[*job as usize].slots;
        }
        taken.iter().zip(&fleet.workers).all(|(taken, slots)| taken <= slots)
    }

    /// What each line has received by now, running attempts included.
    fn received(&self, now: u64, arrivals: &[Arrival], fleet: &Fleet) -> Service {
        let mut service = self.service.clone();
        for ((_, job), (_, _, since)) in &self.running {
            let arrival = &arrivals[*job as usize];
            let line = (arrival.tenant, fleet.line(arrival.queue));
            *service.entry(line).or_default() += (now - since) as f64 * f64::from(arrival.slots);
        }
        service
    }
}

/// The greatest difference between a tenant's worker time and its ideal one, and between a line's and its, in units of all slots
/// for the longest run.
pub(super) fn error(fleet: &Fleet, arrivals: &[Arrival], core: Core) -> Result<(f64, f64), String> {
    let mut real = Real::new(fleet, core);
    let mut ideal = Ideal {
        now: START as f64,
        ..Ideal::default()
    };
    let longest = arrivals.iter().map(|arrival| arrival.run).max().unwrap_or(1);
    let round = f64::from(fleet.slots()) * longest as f64;
    let (mut worst, mut worst_line) = (0.0_f64, 0.0_f64);
    let (mut next, mut due, mut now) = (0, START, START);
    while next < arrivals.len() || !real.running.is_empty() {
        let end = real.running.first_key_value().map(|((at, _), _)| *at);
        let arrives = arrivals.get(next).map(|arrival| due + arrival.after);
        now = end
            .into_iter()
            .chain(arrives)
            .min()
            .expect("something happens")
            .max(now);
        let busy = real.running.keys().map(|(_, job)| arrivals[*job as usize].slots).sum();
        ideal.run_until(now as f64, fleet, busy);
        if arrives.is_some_and(|at| end.is_none_or(|end| at <= end)) {
            let arrival = &arrivals[next];
            let mut spec = plain_job(JobId(next as u128));
            spec.tenant = format!("tenant-{}", arrival.tenant).as_str().into();
            spec.queue = QUEUES[arrival.queue].into();
            spec.options.slots = arrival.slots;
            let line = (arrival.tenant, fleet.line(arrival.queue));
            let work = arrival.run as f64 * f64::from(arrival.slots);
            let slots = f64::from(arrival.slots);
            ideal.lines.entry(line).or_default().push((slots, work));
            due = now;
            next += 1;
            real.apply(now, vec![Command::Enqueue(Box::new(spec))], arrivals);
        } else if let Some(((_, job), (lease, worker, since))) = real.running.pop_first() {
            let arrival = &arrivals[job as usize];
            let line = (arrival.tenant, fleet.line(arrival.queue));
            *real.service.entry(line).or_default() += (now - since) as f64 * f64::from(arrival.slots);
            real.credits[worker] += u64::from(arrival.slots);
            let result = AttemptReport {
                job: JobId(job),
                lease,
                outcome: AttemptOutcome::Succeeded {
                    result: bytes::Bytes::new(),
                },
            };
            let report = real.report(worker, vec![result]);
            real.apply(now, vec![report], arrivals);
        }
        if !real.nobody_is_overloaded(arrivals, fleet) {
            return Err(format!("a worker of {fleet:?} runs more than it has slots for"));
        }
        let received = real.received(now, arrivals, fleet);
        let off = |line: &(usize, usize)| {
            let [a, b] = [&received, &ideal.service].map(|service| service.get(line).copied().unwrap_or(0.0));
            a - b
        };
        let lines: Vec<(usize, usize)> = (0..fleet.weights.len())
            .flat_map(|tenant| [(tenant, 0), (tenant, 1)])
            .collect();
        for line in &lines {
            worst_line = worst_line.max(off(line).abs() / round);
        }
        for tenant in 0..fleet.weights.len() {
            let sum = off(&(tenant, 0)) + off(&(tenant, 1));
            worst = worst.max(sum.abs() / round);
        }
    }
    Ok((worst, worst_line))
}
