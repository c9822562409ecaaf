//! Fair shares of fleets.

use super::enqueue;
use crate::testing::*;
use crate::*;

fn of(tenant: &str, id: u128) -> JobSpec {
    JobSpec {
        tenant: tenant.into(),
        ..job(id)
    }
}

/// A session of the fleet that takes the queue.
fn open_for(bed: &mut Bed, session: u128, queue: &str, credit_total: u64) {
    let mut hello = hello(session, bed.index);
    hello.class.queues = vec![queue.into()];
    bed.one(Command::OpenSession(Box::new(hello)));
    bed.report(session, vec![], credit_total);
}

/// Everything that runs in a session ends after `length` ms, and as many start anew. Returns the tenants that started.
fn turn(bed: &mut Bed, session: u128, length: u64, credit_total: u64) -> Vec<String> {
    bed.now += length;
    let running: Vec<JobRow> = bed
        .core
        .tenants()
        .iter()
        .flat_map(|tenant| bed.core.jobs(tenant.id, &JobFilter::default(), None, 10_000, 10_000).0)
        .filter(|row| row.lease.is_some_and(|lease| lease.session == SessionId(session)))
        .map(|row| (*row).clone())
        .collect();
    let results = running.iter().map(|row| AttemptReport {
        job: row.spec.id,
        lease: row.lease.expect("it runs").id,
        outcome: succeeded(),
    });
    let results = results.collect();
    bed.report(session, results, credit_total);
    let started = bed.events.iter().filter_map(|event| match event {
        Event::Assigned(given) => Some(given.spec.tenant.to_string()),
        _ => None,
    });
    started.collect()
}

/// Two tenants share a slow fleet. One of them comes from a fast fleet, where it alone did a thousand times as much.
#[test]
fn what_a_tenant_did_in_one_fleet_says_nothing_in_another() {
    let mut bed = Bed::new();
    for tenant in ["fast", "slow"] {
        bed.set_tenant(tenant, TenantSettings::default());
    }
    open_for(&mut bed, 1, "quick", 1);
    let in_queue = |queue: &str, spec: JobSpec| JobSpec {
        queue: queue.into(),
        ..spec
    };
    bed.all((0..50).map(|id| enqueue(in_queue("quick", of("fast", id)))).collect());
    for credit in 2..40 {
        turn(&mut bed, 1, 10_000, credit);
    }
    let mut commands: Vec<Command> = (100..120).map(|id| enqueue(in_queue("long", of("slow", id)))).collect();
    commands.extend((200..220).map(|id| enqueue(in_queue("long", of("fast", id)))));
    bed.all(commands);
    open_for(&mut bed, 2, "long", 1);
    let mut fast = 0;
    for credit in 2..22 {
        let started = turn(&mut bed, 2, 50, credit);
        fast += usize::from(started == ["fast"]);
    }
    assert!((9..=11).contains(&fast), "{fast} of 20 starts");
}

#[test]
fn a_fleet_that_comes_back_goes_on_where_it_was() {
    let mut bed = Bed::new();
    for tenant in ["a", "b"] {
        bed.set_tenant(tenant, TenantSettings::default());
    }
    let mut commands: Vec<Command> = (0..20).map(|id| enqueue(of("a", id))).collect();
    commands.extend((100..120).map(|id| enqueue(of("b", id))));
    bed.all(commands);
    let mut started = Vec::new();
    // Each worker takes one job, does it and goes away.
    for session in 1..=20 {
        bed.open(session, 1);
        started.extend(bed.started());
        turn(&mut bed, session, 50, 1);
        bed.one(Command::CloseSession {
            session: SessionId(session),
        });
    }
    let of_a = started.iter().filter(|id| **id < 100).count();
    assert!((9..=11).contains(&of_a), "{of_a} of 20 starts");
    let fleets = |bed: &Bed| {
        bed.core
            .rows()
            .iter()
            .filter(|row| matches!(row, Row::Fleet(_)))
            .count()
    };
    assert_eq!(fleets(&bed), 1);
    assert_eq!(bed.tick(), 3_600_000, "then it is forgotten");
    assert_eq!(fleets(&bed), 0);
}

/// A tenant whose jobs are held up by a limit of their own saves up no credit meanwhile.
#[test]
fn who_is_held_up_by_a_limit_hoards_nothing() {
    let mut bed = Bed::new();
    for tenant in ["busy", "held"] {
        bed.set_tenant(tenant, TenantSettings::default());
    }
    let closed = rule(LimitLevel::Key, "held", "k", None, 1);
    bed.one(Command::SetLimit(Box::new(closed.clone())));
    bed.open(1, 2);
    let mut commands: Vec<Command> = (0..200).map(|id| enqueue(of("busy", id))).collect();
    commands.extend((500..600).map(|id| enqueue(with_keys(of("held", id), &["k"]))));
    bed.all(commands);
    // One job of the held tenant runs for ever, a hundred of the other one come and go.
    assert_eq!(bed.started(), [0, 500]);
    let mut credits = 2;
    for _ in 0..100 {
        bed.now += 50;
        credits += 1;
        let of_busy: Vec<u128> = (0..200)
            .filter(|id| bed.state(*id) == Some(JobState::Running))
            .collect();
        let lease = bed.row(of_busy[0]).lease.expect("it runs").id;
        let report = AttemptReport {
            job: JobId(of_busy[0]),
            lease,
            outcome: succeeded(),
        };
        bed.report(1, vec![report], credits);
    }
    bed.one(Command::DeleteLimit(closed.selector));
    let mut held = 0;
    for _ in 0..20 {
        credits += 1;
        let started = turn_one(&mut bed, credits);
        held += usize::from(started == "held");
    }
    assert!((8..=12).contains(&held), "{held} of 20 starts");
}

/// The youngest running job ends after 50 ms and another one starts; returns its tenant.
fn turn_one(bed: &mut Bed, credits: u64) -> String {
    bed.now += 50;
    let rows: Vec<JobRow> = (0..600)
        .filter(|id| bed.state(*id) == Some(JobState::Running) && *id != 500)
        .map(|id| bed.row(id))
        .collect();
    let youngest = rows
        .iter()
        .max_by_key(|row| row.lease.expect("it runs").id)
        .expect("one runs");
    let report = AttemptReport {
        job: youngest.spec.id,
        lease: youngest.lease.expect("it runs").id,
        outcome: succeeded(),
    };
    bed.report(1, vec![report], credits);
    let given = bed.events.iter().find_map(|event| match event {
        Event::Assigned(given) => Some(given.spec.tenant.to_string()),
        _ => None,
    });
    given.expect("another one starts")
}
