//! Sessions, their credits, and queues that are paused.

use super::{enqueue, refused};
use crate::testing::*;
use crate::*;

#[test]
fn sessions_open_once_and_stay_closed() {
    let mut bed = Bed::new();
    bed.open(1, 0);
    let before = bed.index;
    assert_eq!(bed.one(Command::OpenSession(Box::new(hello(1, 0)))), Reply::Done);
    assert!(bed.events.is_empty());
    for _ in 0..2 {
        assert_eq!(bed.one(Command::CloseSession { session: SessionId(1) }), Reply::Done);
    }
    assert_eq!(
        refused(bed.one(Command::OpenSession(Box::new(hello(1, before))))),
        Refusal::SessionClosed
    );
    let lost = (100..1124)
        .map(|id| Command::LoseSession { session: SessionId(id) })
        .collect();
    bed.all(lost);
    assert!(bed.core.meta().closed_floor > before);
    assert_eq!(
        refused(bed.one(Command::OpenSession(Box::new(hello(1, before))))),
        Refusal::SessionClosed
    );
    bed.open(2, 0);
    bed.now += 5;
    bed.one(Command::Vouch {
        sessions: vec![SessionId(2), SessionId(77)],
    });
    assert_eq!(bed.core.sessions()[0].row.vouched_at, bed.now);
    bed.one(Command::QuietSession { session: SessionId(2) });
    bed.report(2, vec![], 5);
    bed.enqueue(job(1));
    assert_eq!(bed.started(), [] as [u128; 0], "a quiet session gets nothing");
}

#[test]
fn credits_are_a_total_and_spread_over_sessions() {
    let mut bed = Bed::new();
    bed.open(1, 2);
    bed.open(2, 2);
    bed.report(1, vec![], 2);
    let jobs = (1..=5).map(|id| enqueue(job(id))).collect();
    bed.all(jobs);
    assert_eq!(bed.started(), [1, 2, 3, 4]);
    assert_eq!(
        bed.core
            .sessions()
            .iter()
            .map(|session| session.running)
            .collect::<Vec<_>>(),
        [2, 2]
    );
    bed.report(1, vec![], 3);
    assert_eq!(bed.started(), [5]);
}

#[test]
fn a_paused_queue_starts_nothing() {
    let mut bed = Bed::new();
    let pause = |paused| Command::PauseQueue {
        tenant: "default".into(),
        queue: "q".into(),
        paused,
        note: "maintenance".into(),
    };
    bed.one(pause(true));
    bed.open(1, 5);
    bed.enqueue(job(1));
    bed.enqueue(JobSpec {
        queue: "other".into(),
        ..job(2)
    });
    assert_eq!(bed.started(), [2]);
    let view = bed
        .core
        .queues(TenantId(1))
        .into_iter()
        .find(|view| &*view.name == "q")
        .unwrap();
    assert_eq!(
        (view.paused, &*view.note, view.live.available),
        (true, "maintenance", 1)
    );
    bed.one(pause(false));
    assert_eq!(bed.started(), [1]);
}
