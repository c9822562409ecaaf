//! The archive of the log: what becomes of it when it cannot be written for long, or when somebody else writes to it.

use muster_backup::{At, Backups, Error};

use crate::bed::{Bed, Node, eventually, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_waits_for_its_archive_but_not_for_ever() {
    const MIB: u64 = 1 << 20;
    let bed = Bed::start(options(), |raft| {
        raft.log_keep_bytes = MIB;
        raft.log_hold_bytes = 12 * MIB;
    })
    .await;
    bed.node.enqueue(0..10).await;
    bed.create().await;
    bed.archived().await;
    let purged = || bed.node.raft.status().purged_index;
    // The place is gone: a file stands where the folder was.
    let (log, aside) = (bed.objects("log"), bed.objects("aside"));
    std::fs::rename(&log, &aside).unwrap();
    std::fs::write(&log, "in the way").unwrap();
    let before = bed.node.point();
    bed.node.fill(1_000, 6).await;
    eventually("the failure is told", || {
        let status = bed.backups.status().archive.unwrap();
        status.error.is_some() && status.lag_entries > 0
    })
    .await;
    // More than the log keeps by itself, less than it holds for the archive: what is archived goes, and nothing else. One more entry is
    // called archived, so that its purge shows that the whole log was looked at.
    let archived = before.index + 1;
    bed.node.raft.archived(archived);
    eventually("what is archived is purged", || purged() >= archived).await;
    assert_eq!(purged(), archived);
    bed.node.fill(2_000, 12).await;
    eventually("the log is purged all the same", || purged() > archived).await;

    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    eventually("the gap is told", || bed.backups.status().archive.unwrap().gaps == 1).await;
    eventually("a backup is made by itself", || bed.files("backups").len() == 2).await;
    bed.node.enqueue(5_000..5_010).await;
    let end = bed.archived().await;
    // Before the gap and after it, but not in it.
    let early = bed.restore("early", Some(At::Index(before.index))).await.unwrap();
    assert_eq!(early.state_hash, before.hash);
    let inside = bed.restore("inside", Some(At::Index(before.index + 2))).await;
    assert!(matches!(inside, Err(Error::Gap { .. })), "{inside:?}");
    assert!(!bed.data("inside").exists());
    let late = bed.restore("late", None).await.unwrap();
    assert_eq!((late.position.index, late.state_hash), (end, bed.node.point().hash));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_of_the_same_cluster_is_not_mixed_in() {
    let bed = Bed::start(options(), |_| ()).await;
    bed.node.enqueue(0..10).await;
    bed.archived().await;
    drop(bed.backups.clone());
    // The directory is rolled back, as by a snapshot of its disk, and the node goes on from there.
    let copy = bed.data("copy");
    let Bed {
        dir,
        node,
        location,
        key,
        backups,
    } = bed;
    drop(backups);
    let raft = node.raft.clone();
    node.stop();
    drop(raft);
    muster_store::offline::copy(&dir.path().join("node"), &copy).unwrap();
    for (data, ids) in [(dir.path().join("node"), 100..120), (copy, 200..230)] {
        let node = Node::start(&data, |_| ()).await;
        node.enqueue(ids.clone()).await;
        let backups = Backups::start_at(options(), location.clone(), Some(key.clone()), node.raft.clone());
        let applied = node.point().index;
        if ids.start == 100 {
            // The first one adds entries in a term that the other one has for its own.
            eventually("its log is archived", || {
                backups.status().archive.unwrap().archived_index >= applied
            })
            .await;
            node.enqueue(120..130).await;
            let applied = node.point().index;
            eventually("its log is archived", || {
                backups.status().archive.unwrap().archived_index >= applied
            })
            .await;
        } else {
            eventually("the other history is noticed", || {
                let error = backups.status().archive.unwrap().error;
                error.is_some_and(|error| error.contains("another history"))
            })
            .await;
        }
        drop(backups);
        node.stop();
    }
}
