//! What comes back is exactly what was there.

use jiff::Timestamp;
use muster_backup::{At, Jobs, restore, silent, verify};
use muster_core::{JobId, JobState, LeaseId};
use muster_store::{Store, StoreOptions};

use crate::bed::{Bed, Node, Point, options};

fn instant(point: Point) -> At {
    At::Instant(Timestamp::from_millisecond(point.time_ms as i64).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_after_a_backup_is_restored_exactly() {
    let bed = Bed::start(options(), |_| ()).await;
    let node = &bed.node;
    node.enqueue(0..500).await;
    node.work(1, 100).await;
    let first = bed.create().await;
    assert_eq!(first.manifest.state_hash, node.point().hash);
    let mut points = vec![node.point()];
    node.finish(1, 0..50).await;
    points.push(node.point());
    node.enqueue(500..900).await;
    points.push(node.point());
    let second = bed.create().await;
    node.work(2, 30).await;
    points.push(node.point());
    node.finish(2, 100..120).await;
    points.push(node.point());
    bed.archived().await;

    for (number, point) in points.iter().enumerate() {
        let by_index = bed
            .restore(&format!("index-{number}"), Some(At::Index(point.index)))
            .await
            .unwrap();
        assert_eq!(
            (by_index.position.index, by_index.state_hash),
            (point.index, point.hash)
        );
        let newest = if point.index >= second.manifest.position.index {
            &second
        } else {
            &first
        };
        assert_eq!(by_index.backup.id, newest.manifest.id, "from the newest that fits");
    }
    // Stamps have milliseconds: what shares that of a point comes with it.
    for point in &points {
        let name = format!("instant-{}", point.index);
        let by_instant = bed.restore(&name, Some(instant(*point))).await.unwrap();
        assert!(by_instant.position.index >= point.index && by_instant.replicated_time_ms == point.time_ms);
    }
    let all = bed.restore("all", None).await.unwrap();
    let last = node.point();
    assert_eq!((all.position.index, all.state_hash), (last.index, last.hash));

    let mut alone = bed.request("alone", None);
    alone.backup = Some(first.manifest.id.clone());
    let alone = restore(&alone, &silent()).await.unwrap();
    assert_eq!((alone.replayed, alone.state_hash), (0, first.manifest.state_hash));

    let (repository, trust, scratch) = (bed.repository(), bed.trust(), bed.dir.path());
    let verified = verify(&repository, Some(&first.manifest.id), &trust, scratch, &silent()).await;
    let verified = verified.unwrap();
    assert_eq!(
        (verified.met, verified.reaches),
        (1, last.index),
        "the second backup lies on the way"
    );
    assert!(verified.rows > 500 && verified.segments > 0 && verified.signed_by == Some(bed.key.verify_key()));
    let verified = verify(&bed.repository(), None, &bed.trust(), bed.dir.path(), &silent())
        .await
        .unwrap();
    assert_eq!((verified.manifest.id, verified.ended), (second.manifest.id, 50));
    let left: Vec<_> = std::fs::read_dir(bed.dir.path())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.contains("verify") || name.contains("restoring"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_cluster_lives_on_and_gives_out_no_token_twice() {
    let bed = Bed::start(options(), |_| ()).await;
    bed.node.enqueue(0..20).await;
    bed.node.work(1, 5).await;
    let held = |node: &Node| -> Vec<(u128, LeaseId)> {
        let lease = |id| node.raft.read(|core| Some((id, core.job(JobId(id))?.lease?.id)));
        (0..20).filter_map(lease).collect()
    };
    let before = held(&bed.node);
    assert_eq!(before.len(), 5);
    bed.create().await;
    bed.node.finish(1, 0..1).await;
    let reached = bed.archived().await;

    let restored = bed.restore("new", Some(At::Index(reached))).await.unwrap();
    let expected = Jobs {
        available: 15,
        running: 4,
        ..Jobs::default()
    };
    assert_eq!(restored.jobs, expected);
    assert_ne!(restored.cluster, restored.from_cluster);
    let node = Node::start(&bed.data("new"), |_| ()).await;
    let status = node.raft.status();
    assert_eq!((status.cluster, status.voters), (restored.cluster, vec![1]));
    assert!(status.applied_index > restored.begin_index && restored.begin_index > reached + (1 << 29));
    node.raft.read(|core| {
        assert!(core.sessions().is_empty());
        assert_eq!(core.live().available, 19);
        core.check_invariants().unwrap();
        let row = core.job(JobId(1)).unwrap();
        assert_eq!((row.state, row.attempts, row.crashes), (JobState::Available, 0, 0));
    });
    let ended = node.raft.store().state().history_job(JobId(0)).unwrap().unwrap();
    assert_eq!((ended.state, &ended.result[..]), (JobState::Succeeded, &b"done"[..]));
    node.work(2, 19).await;
    let after = held(&node);
    assert_eq!(after.len(), 19);
    assert!(after.iter().all(|(_, new)| before.iter().all(|(_, old)| new > old)));
    node.enqueue(20..30).await;
    node.stop();
    // And it starts again, from its own log.
    let node = Node::start(&bed.data("new"), |_| ()).await;
    assert_eq!(node.raft.read(|core| core.live().total()), 29);
    node.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_that_are_told_the_same_make_the_same_cluster() {
    let bed = Bed::start(options(), |_| ()).await;
    bed.node.enqueue(0..50).await;
    bed.node.work(1, 10).await;
    bed.create().await;
    bed.node.enqueue(50..60).await;
    bed.archived().await;
    let members = |request: &mut muster_backup::RestoreRequest| {
        for id in 2..=3 {
            let mut member = request.members[0].clone();
            member.id = id;
            member.peer = format!("127.0.0.1:{id}");
            request.members.push(member);
        }
        request.members[0].peer = "127.0.0.1:1".to_owned();
    };
    let mut first = bed.request("one", None);
    members(&mut first);
    let mut two = first.nodes[0].clone();
    (two.node, two.data) = (2, bed.data("two"));
    first.nodes.push(two);
    let made = restore(&first, &silent()).await.unwrap();
    let mut other = bed.request("three", Some(At::Index(made.position.index)));
    members(&mut other);
    other.nodes[0].node = 3;
    (other.cluster, other.begin_index) = (Some(made.cluster), Some(made.begin_index));
    restore(&other, &silent()).await.unwrap();

    let mut states = Vec::new();
    for (id, name) in [(1, "one"), (2, "two"), (3, "three")] {
        let store = Store::open(StoreOptions::new(bed.data(name))).unwrap();
        let identity = store.identity().unwrap();
        assert_eq!((identity.cluster, identity.node), (made.cluster, id));
        states.push((
            store.state().load().unwrap(),
            store.log().bounds(),
            store.log().vote().unwrap(),
        ));
        store.close().unwrap();
    }
    assert_eq!(states[0], states[1]);
    assert_eq!(states[0], states[2]);

    let mut early = bed.request("early", Some(At::Index(made.position.index)));
    (early.cluster, early.begin_index) = (Some(made.cluster), Some(made.position.index));
    let refused = restore(&early, &silent()).await.unwrap_err().to_string();
    assert!(refused.contains("the old one has reached"), "{refused}");
}
