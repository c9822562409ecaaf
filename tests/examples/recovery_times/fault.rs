//! The faults, what an operator does about each, and when the cluster is whole again.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use muster_client::{Client, NewNode};
use muster_tests::{Cluster, SmallDisk, damage, eventually};

const LONG: Duration = Duration::from_mins(1);
/// Longer than any lease of the leader's.
const FROZEN: Duration = Duration::from_secs(3);
const DISK: u64 = 640 << 20;
const SMALL: &str = "\n[store]\ndisk_reserve = \"64MiB\"\nflush_interval = \"2s\"\n";

/// What can happen to a cluster of three nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// SIGKILL of a follower, which is started again at once
    FollowerKilled,
    /// SIGKILL of the leader, which is started again at once
    LeaderKilled,
    /// SIGKILL of two of three, which are started again at once
    MajorityKilled,
    /// SIGKILL of all, which are started again at once
    AllKilled,
    /// SIGTERM of each node in turn, as an upgrade does
    RollingRestart,
    /// SIGSTOP of the leader for three seconds
    LeaderFrozen,
    /// Bits flipped in the log of a killed follower: it refills itself
    LogDamaged,
    /// Bits flipped in the state of a killed leader: it refills itself
    StateDamaged,
    /// The disk of a node is gone: another node replaces it
    DiskLost,
    /// The leader's file system is full until another leads, then there is room again
    DiskFull,
}

/// One try.
pub struct Tried {
    /// When it happened.
    pub begun: Instant,
    /// When what was broken began to come back: by a start, or by itself.
    pub repaired: Instant,
    /// When every member had what had been committed by then.
    pub whole: Instant,
}

/// A cluster to which it happens.
pub struct Site {
    // First: the nodes must end before their disks go.
    pub cluster: Cluster,
    disks: Vec<SmallDisk>,
    newest: u64,
}

impl Site {
    pub async fn new(fault: Fault) -> Self {
        let small = fault == Fault::DiskFull;
        let mut cluster = Cluster::prepare(if small { SMALL } else { "" });
        let ids = cluster.ids();
        let mount = |id: &u64| SmallDisk::mount(&cluster.data(*id), DISK);
        let disks = if small {
            ids.iter().map(mount).collect()
        } else {
            Vec::new()
        };
        cluster.start_all();
        cluster.leader().await;
        Self {
            cluster,
            disks,
            newest: 3,
        }
    }

    /// Until each node has applied what was committed when this was called.
    async fn whole(&self, client: &Client) -> Instant {
        let target = eventually("the cluster answers", LONG, || async {
            Some(client.cluster_status().await.ok()?.applied_index)
        })
        .await;
        for id in self.cluster.ids() {
            eventually("the node has caught up", LONG, || async {
                let status = self.cluster.status(id).await?;
                (status.applied_index >= target && !status.storage.refilling).then_some(())
            })
            .await;
        }
        Instant::now()
    }

    fn kill(&mut self, ids: &[u64]) -> Instant {
        let begun = Instant::now();
        for id in ids {
            self.cluster.kill(*id);
        }
        begun
    }

    fn start(&mut self, ids: &[u64]) -> Instant {
        for id in ids {
            self.cluster.start_node(*id);
        }
        Instant::now()
    }
}

impl Fault {
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("no variant is hidden");
        value.get_help().map_or_else(String::new, ToString::to_string)
    }

    /// What is missing for it on this machine.
    pub fn lacking(self) -> Option<&'static str> {
        if self == Self::DiskFull {
            SmallDisk::lacking()
        } else {
            None
        }
    }

    /// Lets it happen once, and waits until all is well again.
    pub async fn inject(self, site: &mut Site, client: &Client) -> Tried {
        let leader = site.cluster.leader().await;
        let follower = site.cluster.follower().await;
        let (begun, repaired) = match self {
            Self::FollowerKilled => (site.kill(&[follower]), site.start(&[follower])),
            Self::LeaderKilled => (site.kill(&[leader]), site.start(&[leader])),
            Self::MajorityKilled => {
                let ids = [leader, follower];
                (site.kill(&ids), site.start(&ids))
            }
            Self::AllKilled => {
                let begun = Instant::now();
                site.cluster.kill_all();
                (begun, site.start(&site.cluster.ids()))
            }
            Self::RollingRestart => {
                let begun = Instant::now();
                for id in site.cluster.ids() {
                    let code = site.cluster.terminate(id).await;
                    assert_eq!(code, Some(0), "node {id} ends well");
                    site.start(&[id]);
                    site.whole(client).await;
                }
                (begun, begun)
            }
            Self::LeaderFrozen => {
                let begun = Instant::now();
                site.cluster.pause(leader);
                tokio::time::sleep(FROZEN).await;
                site.cluster.resume(leader);
                (begun, Instant::now())
            }
            Self::LogDamaged => {
                let begun = site.kill(&[follower]);
                damage::break_log(&site.cluster.data(follower));
                (begun, site.start(&[follower]))
            }
            Self::StateDamaged => {
                let begun = site.kill(&[leader]);
                damage::break_state(&site.cluster.data(leader));
                (begun, site.start(&[leader]))
            }
            Self::DiskLost => replace(site, client, follower).await,
            Self::DiskFull => fill(site, leader).await,
        };
        let whole = site.whole(client).await;
        Tried { begun, repaired, whole }
    }
}

/// A node that lost its disk is replaced by a new one.
async fn replace(site: &mut Site, client: &Client, lost: u64) -> (Instant, Instant) {
    let begun = site.kill(&[lost]);
    let cluster = &mut site.cluster;
    cluster.wipe(lost);
    cluster.forget(lost);
    site.newest += 1;
    let node = site.newest;
    cluster.prepare_node(node);
    let new = NewNode {
        node_id: node,
        replaces: Some(lost),
        ..NewNode::default()
    };
    let token = client.create_join_token(&new).await.expect("a token");
    cluster.start_joining(node, &token.token);
    let repaired = Instant::now();
    eventually("the node votes", LONG, || async {
        let status = client.cluster_status().await.ok()?;
        let last = status.last_change.filter(|change| change.node_id == node)?;
        last.is_done().then_some(())
    })
    .await;
    (begun, repaired)
}

/// A leader without room hands over; later there is room again.
async fn fill(site: &mut Site, leader: u64) -> (Instant, Instant) {
    let begun = Instant::now();
    let disk = &site.disks[leader as usize - 1];
    disk.fill();
    let cluster = &site.cluster;
    eventually("another leads", LONG, || async {
        let status = cluster.status(leader).await?;
        (status.leader_id.is_some() && status.leader_id != Some(leader)).then_some(())
    })
    .await;
    disk.free();
    let repaired = Instant::now();
    eventually("the node sees its room", LONG, || async {
        (cluster.status(leader).await?.storage.room != "out").then_some(())
    })
    .await;
    (begun, repaired)
}
