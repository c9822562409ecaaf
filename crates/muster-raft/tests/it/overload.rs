//! A cluster that takes no new jobs goes on taking what ends them, on whatever node it comes in.

use muster_core::{Command, JobId, JobSpec, Payload, Reply};
use muster_raft::ProposeError;

use crate::common::{Cluster, job, soon};

const LIMIT: u64 = 16 << 20;
/// Several fit into a group on its way to the leader.
const PAYLOAD: usize = 64 << 10;
/// The first round shares groups; the others show that those apart go on.
const ROUNDS: u32 = 20;
const BURST: u32 = 16;

fn large(id: u128) -> Command {
    let payload = Payload {
        data: vec![b'x'; PAYLOAD].into(),
        ..Payload::default()
    };
    Command::Enqueue(JobSpec { payload, ..job(id) }.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_that_travel_with_refused_jobs_get_through() {
    let mut cluster = Cluster::new(3);
    cluster.change = |options| options.jobs_memory = LIMIT;
    cluster.start_all().await;
    let leader = cluster.leader().await;
    let mut taken = 0;
    for id in 1..1_000 {
        match cluster.raft(leader).propose(large(id), soon()).await {
            Ok(reply) => {
                assert!(matches!(reply, Reply::Enqueued(_)), "{reply:?}");
                taken += 1;
            }
            Err(ProposeError::MemoryFull { used, limit, .. }) => {
                assert!(
                    limit == LIMIT && used <= limit && used + 2 * PAYLOAD as u64 > limit,
                    "{used}"
                );
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!((200..=256).contains(&taken), "{taken} jobs");

    let followers: Vec<_> = cluster.nodes.keys().copied().filter(|id| *id != leader).collect();
    for (follower, round) in followers
        .iter()
        .flat_map(|id| (0..ROUNDS).map(move |round| (*id, round)))
    {
        // Worker and producers of one node in turns: groups of more than one command have both sorts, until the node knows
        // that new jobs are refused.
        let raft = cluster.raft(follower);
        let both = (0..BURST).map(async |at| {
            let id = (u128::from(follower) << 64) + u128::from(round * BURST + at);
            let report = raft.propose(Command::Tick, soon());
            let job = raft.propose(large(id), soon());
            tokio::join!(report, job)
        });
        for (answered, refused) in futures::future::join_all(both).await {
            assert!(answered.is_ok(), "node {follower}, round {round}: {answered:?}");
            assert!(matches!(refused, Err(ProposeError::MemoryFull { .. })), "{refused:?}");
        }
    }

    // What makes room is taken on the follower, too, and then there is room.
    let cancel = Command::Cancel {
        tenant: "default".into(),
        job: JobId(1),
    };
    let raft = cluster.raft(followers[0]);
    raft.propose(cancel, soon()).await.unwrap();
    let accepted = raft.propose(large(10_000), soon()).await;
    assert!(matches!(accepted, Ok(Reply::Enqueued(_))), "{accepted:?}");
    cluster.stop_all().await;
}
