//! Jobs that take several slots of a worker.

use super::*;

fn wide(id: u128, slots: u32) -> JobSpec {
    let mut spec = job(id);
    spec.options.slots = slots;
    spec
}

fn of(tenant: &str, mut spec: JobSpec) -> JobSpec {
    spec.tenant = tenant.into();
    spec
}

/// A session with so many slots, all of them free.
fn open(bed: &mut Bed, session: u128, slots: u32) {
    let mut hello = hello(session, bed.index);
    hello.class.slots = slots;
    assert_eq!(bed.one(Command::OpenSession(Box::new(hello))), Reply::Done);
    bed.report(session, vec![], u64::from(slots));
}

fn session_row(bed: &Bed, session: u128) -> SessionRow {
    let views = bed.core.sessions();
    let view = views
        .into_iter()
        .find(|view| view.row.spec.session == SessionId(session));
    view.expect("it is open").row
}

/// The job succeeds, and its slots are free again.
fn end(bed: &mut Bed, id: u128) {
    let row = bed.row(id);
    let lease = row.lease.expect("it runs");
    let credits = session_row(bed, lease.session.0).credit_total + u64::from(row.spec.options.slots);
    let result = AttemptReport {
        job: JobId(id),
        lease: lease.id,
        outcome: succeeded(),
    };
    bed.report(lease.session.0, vec![result], credits);
}

fn holder(bed: &Bed, id: u128) -> Option<u128> {
    bed.row(id).lease.map(|lease| lease.session.0)
}

#[test]
fn a_job_takes_its_slots_and_gives_them_back() {
    let mut bed = Bed::new();
    open(&mut bed, 1, 4);
    bed.enqueue(wide(1, 3));
    bed.enqueue(wide(2, 1));
    bed.enqueue(wide(3, 1));
    assert_eq!([1, 2, 3].map(|id| holder(&bed, id)), [Some(1), Some(1), None]);
    assert_eq!(session_row(&bed, 1).granted_total, 4);
    end(&mut bed, 1);
    assert_eq!(holder(&bed, 3), Some(1));
}

#[test]
fn the_number_of_slots_has_bounds() {
    let mut bed = Bed::new();
    for slots in [0, 257] {
        let Reply::Refused(Refusal::OutOfRange { field, value, allowed }) =
            bed.one(Command::Enqueue(Box::new(wide(1, slots))))
        else {
            panic!("accepted with {slots}")
        };
        assert_eq!(
            (&*field, &*value, &*allowed),
            ("slots", &*slots.to_string(), "1 to 256")
        );
    }
}

#[test]
fn a_job_wider_than_every_worker_is_unroutable() {
    let mut bed = Bed::new();
    open(&mut bed, 1, 4);
    bed.enqueue(wide(1, 5));
    assert_eq!(bed.core.unroutable(), 1);
    let groups = bed.core.unroutable_of(TenantId(1), 0, 100).0;
    assert_eq!(
        (groups[0].what.slots, groups[0].workers.labels, groups[0].workers.accept),
        (5, 1, 0)
    );
    let explained = bed.core.explain(TenantId(1), JobId(1)).expect("it lives");
    assert_eq!(explained.reasons, [WaitReason::NoWorker]);
    // It starts with the first worker that is wide enough, and holds nobody up until then.
    bed.enqueue(wide(2, 1));
    assert_eq!(holder(&bed, 2), Some(1));
    open(&mut bed, 2, 8);
    assert_eq!(holder(&bed, 1), Some(2));
}

/// Two workers with four slots each are kept busy by a stream of narrow jobs. The wide one has its turn: one of the workers
/// starts nothing more until it has four slots free, the other goes on.
#[test]
fn a_wide_job_is_not_starved_by_narrow_ones() {
    let mut bed = Bed::new();
    open(&mut bed, 1, 4);
    open(&mut bed, 2, 4);
    for id in 1..=8 {
        bed.enqueue(wide(id, 1));
    }
    bed.enqueue(wide(100, 4));
    for id in 200..230 {
        bed.now += 1;
        bed.enqueue(wide(id, 1));
    }
    end(&mut bed, 1);
    let gatherer = bed.core.sessions().into_iter().find(|view| view.row.gathers.is_some());
    let gatherer = gatherer.expect("one gathers").row.spec.session;
    let row = GatherRow {
        tenant: TenantId(1),
        slots: 4,
    };
    assert_eq!(session_row(&bed, gatherer.0).gathers, Some(row));
    let explained = bed.core.explain(TenantId(1), JobId(100)).expect("it lives");
    assert_eq!(explained.reasons, [WaitReason::NoSlot]);
    assert_eq!(explained.gatherer.map(|holder| holder.session), Some(gatherer));
    let (own, other): (Vec<u128>, Vec<u128>) = (2..=8).partition(|id| holder(&bed, *id) == Some(gatherer.0));
    for id in other {
        end(&mut bed, id);
        assert_eq!(bed.started().len(), 1, "the other worker goes on");
    }
    for id in &own {
        assert_eq!(holder(&bed, 100), None);
        end(&mut bed, *id);
    }
    assert_eq!(holder(&bed, 100), Some(gatherer.0));
    assert_eq!(session_row(&bed, gatherer.0).gathers, None);
}

#[test]
fn gathering_ends_with_what_it_is_for() {
    let mut bed = Bed::new();
    open(&mut bed, 1, 4);
    for id in 1..=4 {
        bed.enqueue(wide(id, 1));
    }
    bed.enqueue(wide(100, 4));
    bed.now += 1;
    bed.enqueue(wide(5, 1));
    end(&mut bed, 1);
    assert!(session_row(&bed, 1).gathers.is_some());
    // A pause is looked at in the very entry.
    let pause = |paused| Command::PauseKind {
        tenant: "default".into(),
        kind: "mail".into(),
        paused,
        note: "".into(),
    };
    bed.one(pause(true));
    assert_eq!(session_row(&bed, 1).gathers, None);
    bed.one(pause(false));
    assert!(session_row(&bed, 1).gathers.is_some());
    bed.one(Command::Cancel {
        tenant: "default".into(),
        job: JobId(100),
    });
    assert_eq!(session_row(&bed, 1).gathers, None);
    assert_eq!(holder(&bed, 5), Some(1));
}

/// The worker said that it has four slots and makes three free. A job that takes four waits and keeps nothing from others.
#[test]
fn a_worker_that_gives_less_than_it_said_does_not_gather() {
    let mut bed = Bed::new();
    open(&mut bed, 1, 4);
    for id in 1..=4 {
        bed.enqueue(wide(id, 1));
    }
    bed.enqueue(wide(100, 4));
    // The slot of the first does not come back.
    assert_eq!(bed.end(1, succeeded()), ReportReply::Accepted(JobState::Succeeded));
    end(&mut bed, 2);
    assert_eq!(session_row(&bed, 1).gathers, None);
    bed.enqueue(wide(5, 1));
    assert_eq!((holder(&bed, 5), holder(&bed, 100)), (Some(1), None));
}

/// Lost or quiet, the session gathers no longer; another one does.
#[test]
fn another_worker_takes_over() {
    let mut bed = Bed::new();
    open(&mut bed, 1, 2);
    open(&mut bed, 2, 2);
    for id in 1..=4 {
        bed.enqueue(wide(id, 1));
    }
    bed.enqueue(wide(100, 2));
    end(&mut bed, 1);
    let first = if session_row(&bed, 1).gathers.is_some() { 1 } else { 2 };
    let second = 3 - first;
    bed.one(Command::QuietSession {
        session: SessionId(first),
    });
    assert_eq!(session_row(&bed, first).gathers, None);
    let of_second: Vec<u128> = (1..=4)
        .filter(|id| bed.state(*id).is_some() && holder(&bed, *id) == Some(second))
        .collect();
    end(&mut bed, of_second[0]);
    assert!(session_row(&bed, second).gathers.is_some());
    bed.one(Command::LoseSession {
        session: SessionId(second),
    });
    open(&mut bed, 3, 2);
    // A narrow job of the lost session has its turn before.
    assert_eq!(session_row(&bed, 3).granted_total, 1);
    assert!(session_row(&bed, 3).gathers.is_some());
}

/// Equal weights, jobs of equal length: the tenant whose jobs take four slots starts a quarter as many.
#[test]
fn shares_count_slots() {
    let mut bed = Bed::new();
    for tenant in ["wide", "narrow"] {
        bed.set_tenant(tenant, TenantSettings::default());
    }
    open(&mut bed, 1, 4);
    for id in 0..100 {
        bed.enqueue(of("wide", wide(1_000 + id, 4)));
        for other in 0..4 {
            bed.enqueue(of("narrow", wide(2_000 + 4 * id + other, 1)));
        }
    }
    let mut slots = [0_u64; 2];
    for _ in 0..80 {
        bed.now += 100;
        let running: Vec<u128> = (1_000..3_000)
            .filter(|id| bed.state(*id) == Some(JobState::Running))
            .collect();
        for id in running {
            slots[usize::from(id >= 2_000)] += u64::from(bed.row(id).spec.options.slots);
            end(&mut bed, id);
        }
    }
    let [wide, narrow] = slots;
    assert!(
        wide.abs_diff(narrow) <= 16,
        "{wide} slots of wide jobs, {narrow} of narrow ones"
    );
}
