//! Making backups: only what is new is sent, and what was interrupted is not there.

use std::time::Duration;

use muster_backup::{Backups, Catalog, Error, Location, Retention, Step, Trust, create, prune, silent};
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, eventually, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_backup_sends_only_what_changed() {
    let bed = Bed::start(options(), |_| ()).await;
    bed.node.fill(0, 4).await;
    let first = bed.create().await;
    assert!(
        first.new_bytes > 4 << 20 && first.new_bytes == first.manifest.bytes,
        "{first:?}"
    );
    bed.node.enqueue(100..110).await;
    let second = bed.create().await;
    assert!(
        second.manifest.bytes > 4 << 20 && second.new_bytes < 1 << 20,
        "{second:?}"
    );
    let catalog = Catalog::load(&bed.repository(), &bed.trust()).await.unwrap();
    assert_eq!(catalog.good().count(), 2);
    // What only the first one needed goes with it.
    let retention = Retention {
        keep: 1,
        keep_for: Duration::ZERO,
    };
    let pruned = prune(&bed.repository(), retention, &bed.trust(), false).await.unwrap();
    assert_eq!(pruned.backups, [first.manifest.id]);
    bed.archived().await;
    let restored = bed.restore("new", None).await.unwrap();
    assert_eq!(restored.state_hash, bed.node.point().hash);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_stopped_is_not_there() {
    let bed = Bed::start(options(), |_| ()).await;
    bed.node.fill(0, 8).await;
    let slow = muster_backup::BackupOptions {
        bandwidth: 1 << 20,
        archive: false,
        ..options()
    };
    let backups = Backups::start_at(slow, bed.location.clone(), Some(bed.key.clone()), bed.node.raft.clone());
    let stop = CancellationToken::new();
    let (sender, mut sent) = tokio::sync::watch::channel(0);
    let sink: muster_backup::ProgressSink = std::sync::Arc::new(move |progress: muster_backup::Progress| {
        if progress.step == Step::Upload {
            sender.send_replace(progress.done);
        }
    });
    let making = tokio::spawn({
        let (backups, stop) = (backups.clone(), stop.clone());
        async move { backups.create(&sink, &stop).await }
    });
    sent.wait_for(|sent| *sent > 0).await.unwrap();
    let busy = backups.create(&silent(), &CancellationToken::new()).await;
    assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
    let retention = Retention {
        keep: 1,
        keep_for: Duration::ZERO,
    };
    let pruned = prune(&bed.repository(), retention, &bed.trust(), false).await;
    assert!(matches!(pruned, Err(Error::Busy { .. })), "{pruned:?}");
    stop.cancel();
    assert!(matches!(making.await.unwrap(), Err(Error::Cancelled)));
    assert!(bed.files("backups").is_empty() && bed.files("running").is_empty());
    assert!(backups.status().last.is_none() && !backups.status().running);
    let made = bed.create().await;
    assert!(made.new_bytes <= made.manifest.bytes);
    assert_eq!(bed.files("backups").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_come_by_schedule_and_old_ones_go() {
    let often = muster_backup::BackupOptions {
        interval: Duration::from_secs(1),
        keep: 2,
        keep_for: Duration::ZERO,
        ..options()
    };
    let bed = Bed::start(often, |_| ()).await;
    let mut made = std::collections::BTreeSet::new();
    let mut next = 0;
    while made.len() < 4 {
        bed.node.enqueue(next..next + 1).await;
        next += 1;
        made.extend(bed.backups.status().last.map(|last| last.id));
        assert!(next < 3_000, "{made:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eventually("old ones are gone", || bed.files("backups").len() <= 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_location_in_memory_will_do_and_nobody_need_sign() {
    let bed = Bed::start(options(), |_| ()).await;
    let repository = Location::in_memory().repository(bed.node.raft.status().cluster);
    bed.node.enqueue(0..10).await;
    let stop = CancellationToken::new();
    let made = create(&bed.node.raft, &repository, None, &silent(), &stop)
        .await
        .unwrap();
    assert_eq!(made.signed_by, None);
    let catalog = Catalog::load(&repository, &bed.trust()).await.unwrap();
    assert!(matches!(catalog.backups[0].manifest, Err(Error::Unsigned { .. })));
    let catalog = Catalog::load(&repository, &Trust::Unsigned).await.unwrap();
    assert_eq!(catalog.good().count(), 1);
    let other = Location::in_memory().repository(7);
    let foreign = create(&bed.node.raft, &other, None, &silent(), &stop).await;
    assert!(matches!(foreign, Err(Error::Foreign { .. })), "{foreign:?}");
}
