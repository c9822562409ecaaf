//! Slots that tenants are guaranteed.

use super::*;

fn guaranteed(slots: u32) -> TenantSettings {
    TenantSettings {
        guaranteed_slots: slots,
        ..TenantSettings::default()
    }
}

fn of(tenant: &str, id: u128) -> JobSpec {
    JobSpec {
        tenant: tenant.into(),
        ..job(id)
    }
}

/// Tenants by name with what they are guaranteed, and a hundred jobs of each, of ids from 100, 200 and so on.
fn with_tenants(tenants: &[(&str, u32)]) -> Bed {
    let mut bed = Bed::new();
    for (at, (name, slots)) in (1..).zip(tenants) {
        bed.set_tenant(name, guaranteed(*slots));
        bed.all((0..100).map(|id| enqueue(of(name, at * 100 + id))).collect());
    }
    bed
}

/// The job succeeds after 50 ms and its slots are free again. Returns what starts.
fn end(bed: &mut Bed, id: u128) -> Vec<u128> {
    bed.now += 50;
    let row = bed.row(id);
    let lease = row.lease.expect("it runs");
    let sessions = bed.core.sessions();
    let session = sessions
        .iter()
        .find(|session| session.row.spec.session == lease.session);
    let credits = session.expect("it is open").row.credit_total + u64::from(row.spec.options.slots);
    let result = AttemptReport {
        job: JobId(id),
        lease: lease.id,
        outcome: succeeded(),
    };
    bed.report(lease.session.0, vec![result], credits);
    bed.started()
}

/// Running jobs, of which hundred each is.
fn running(bed: &Bed) -> Vec<u128> {
    (100..500)
        .filter(|id| bed.state(*id) == Some(JobState::Running))
        .collect()
}

fn count(jobs: &[u128], hundred: u128) -> usize {
    jobs.iter().filter(|id| *id / 100 == hundred).count()
}

/// `rounds` times the job that has run longest ends. Returns how many of each hundred have started.
fn work(bed: &mut Bed, rounds: usize) -> [usize; 3] {
    let mut started = Vec::new();
    for _ in 0..rounds {
        let oldest = running(bed)
            .into_iter()
            .min_by_key(|id| bed.row(*id).lease.map(|lease| lease.id));
        started.extend(end(bed, oldest.expect("one runs")));
    }
    [1, 2, 3].map(|hundred| count(&started, hundred))
}

fn view(bed: &Bed, tenant: &str) -> TenantView {
    let id = bed.core.tenant_id(tenant).expect("it is there");
    bed.core.tenant(id).expect("it is there")
}

#[test]
fn what_is_lent_comes_back_as_attempts_end() {
    let mut bed = with_tenants(&[("busy", 0)]);
    bed.set_tenant("sure", guaranteed(2));
    bed.open(1, 4);
    assert_eq!(running(&bed), [100, 101, 102, 103], "nothing is reserved");
    // By their shares it would be the turn of the other one for long.
    for (name, weight, slots) in [("busy", 10_000, 0), ("sure", 1, 2)] {
        let settings = TenantSettings {
            weight,
            ..guaranteed(slots)
        };
        bed.set_tenant(name, settings);
    }
    bed.all((200..210).map(|id| enqueue(of("sure", id))).collect());
    assert_eq!(running(&bed).len(), 4, "nothing is taken back");
    assert_eq!(end(&mut bed, 100), [200]);
    assert_eq!(end(&mut bed, 101), [201]);
    assert_eq!(view(&bed, "sure").running_slots, 2);
    for _ in 0..8 {
        work(&mut bed, 1);
        assert_eq!(view(&bed, "sure").running_slots, 2, "now by its share, which is less");
    }
}

#[test]
fn a_guarantee_is_kept_and_is_no_ceiling() {
    let mut bed = with_tenants(&[("busy", 0), ("sure", 1)]);
    bed.open(1, 4);
    let [busy, sure, _] = work(&mut bed, 80);
    assert_eq!(busy + sure, 80);
    assert!(sure.abs_diff(40) <= 2, "equal weights are equal shares: {sure}");
    let mut bed = with_tenants(&[("busy", 0), ("sure", 3)]);
    bed.open(1, 4);
    let [busy, sure, _] = work(&mut bed, 80);
    assert!(busy.abs_diff(20) <= 2 && sure.abs_diff(60) <= 2, "{busy} and {sure}");
}

#[test]
fn a_lost_lease_a_cancel_and_other_settings_move_it_at_once() {
    let mut bed = with_tenants(&[("busy", 0), ("sure", 2)]);
    bed.open(1, 2);
    assert_eq!(running(&bed), [200, 201]);
    bed.open(2, 2);
    assert_eq!(count(&running(&bed), 2), 2, "its share has not come yet");
    bed.one(Command::LoseSession { session: SessionId(1) });
    assert_eq!(view(&bed, "sure").running_slots, 0);
    let busy: Vec<u128> = running(&bed);
    assert_eq!(end(&mut bed, busy[0]).len(), 1);
    assert_eq!(count(&running(&bed), 2), 1, "it is below again");
    bed.set_tenant("sure", guaranteed(0));
    bed.set_tenant("busy", guaranteed(2));
    let own = running(&bed).into_iter().find(|id| id / 100 == 2).expect("one of each");
    bed.one(Command::Cancel {
        tenant: "sure".into(),
        job: JobId(own),
    });
    assert_eq!(count(&end(&mut bed, own), 1), 1, "the other one is below now");
}

#[test]
fn who_is_held_up_holds_up_nobody() {
    let mut bed = with_tenants(&[("busy", 0), ("sure", 4)]);
    bed.one(Command::SetLimit(Box::new(rule(
        LimitLevel::Queue,
        "sure",
        "q",
        None,
        1,
    ))));
    bed.open(1, 3);
    assert_eq!((count(&running(&bed), 1), count(&running(&bed), 2)), (2, 1));
    bed.one(Command::PauseQueue {
        tenant: "sure".into(),
        queue: "q".into(),
        paused: true,
        note: "".into(),
    });
    assert_eq!(count(&end(&mut bed, 200), 1), 1);
    bed.one(Command::PauseQueue {
        tenant: "sure".into(),
        queue: "q".into(),
        paused: false,
        note: "".into(),
    });
    assert_eq!(work(&mut bed, 1), [0, 1, 0]);
}

#[test]
fn slots_count_and_not_jobs() {
    let mut bed = Bed::new();
    bed.set_tenant("sure", guaranteed(4));
    let wide = |id| {
        let mut spec = of("sure", id);
        spec.options.slots = 3;
        enqueue(spec)
    };
    bed.all((200..205).map(wide).collect());
    bed.set_tenant("busy", TenantSettings::default());
    bed.all((100..120).map(|id| enqueue(of("busy", id))).collect());
    bed.open(1, 9);
    assert_eq!(count(&running(&bed), 2), 2, "with one it is below, with two it is not");
    assert_eq!(view(&bed, "sure").running_slots, 6);
}

#[test]
fn slots_count_over_all_fleets() {
    let mut bed = with_tenants(&[("busy", 0), ("sure", 2)]);
    let mut own = hello(1, bed.index);
    own.class.tenants = vec!["sure".into()];
    bed.one(Command::OpenSession(Box::new(own)));
    bed.report(1, vec![], 2);
    assert_eq!(running(&bed), [200, 201]);
    bed.open(2, 2);
    assert_eq!(
        count(&running(&bed), 1),
        1,
        "it has its two slots, and takes its share here"
    );
}

#[test]
fn who_is_below_shares_by_weight() {
    let mut bed = Bed::new();
    for (name, weight) in [("a", 100), ("b", 300)] {
        bed.set_tenant(
            name,
            TenantSettings {
                weight,
                ..guaranteed(8)
            },
        );
    }
    bed.set_tenant("c", guaranteed(0));
    let jobs = [("a", 100), ("b", 200), ("c", 300)];
    bed.all(
        jobs.iter()
            .flat_map(|(name, base)| (0..90).map(move |id| enqueue(of(name, base + id))))
            .collect(),
    );
    bed.open(1, 4);
    // Until it is known how long the jobs run.
    work(&mut bed, 12);
    let [a, b, c] = work(&mut bed, 60);
    assert!(a.abs_diff(15) <= 3 && b.abs_diff(45) <= 3, "{a} and {b}");
    assert_eq!(c, 0, "all is guaranteed to others");
}

/// A tenant that was away does not take all that is guaranteed when it comes back.
#[test]
fn idle_tenants_save_up_no_guarantee() {
    let mut bed = with_tenants(&[("a", 4)]);
    bed.set_tenant("b", guaranteed(4));
    bed.open(1, 4);
    work(&mut bed, 40);
    bed.all((200..260).map(|id| enqueue(of("b", id))).collect());
    work(&mut bed, 4);
    let [a, b, _] = work(&mut bed, 20);
    assert!(a.abs_diff(b) <= 3, "{a} and {b}");
}

#[test]
fn it_is_told_who_comes_first_and_why() {
    let mut bed = with_tenants(&[("busy", 0), ("sure", 2)]);
    bed.open(1, 1);
    assert_eq!(running(&bed), [200]);
    let share = |bed: &Bed, tenant, id| {
        let tenant = bed.core.tenant_id(tenant).expect("it is there");
        let explained = bed.core.explain(tenant, JobId(id)).expect("it lives");
        explained.share.expect("there are workers")
    };
    let busy = share(&bed, "busy", 100);
    assert_eq!(
        (busy.before, busy.before_by_guarantee, busy.guarantee),
        (Some(1), Some(1), None)
    );
    let sure = share(&bed, "sure", 201);
    assert_eq!(
        (sure.before, sure.before_by_guarantee, sure.guarantee),
        (Some(0), Some(0), Some((2, 1)))
    );
    bed.set_tenant("sure", guaranteed(1));
    assert_eq!(share(&bed, "busy", 100).before_by_guarantee, Some(0));
}

#[test]
fn guarantees_have_bounds() {
    let mut bed = Bed::new();
    let reply = bed.set_tenant("sure", guaranteed(1_000_001));
    let Refusal::OutOfRange { field, value, allowed } = refused(reply) else {
        panic!("another refusal")
    };
    assert_eq!(
        (&*field, &*value, &*allowed),
        ("guaranteed_slots", "1000001", "0 to 1000000")
    );
    assert!(matches!(
        bed.set_tenant("sure", guaranteed(1_000_000)),
        Reply::Tenant(_)
    ));
}
