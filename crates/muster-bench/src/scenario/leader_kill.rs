//! The leader killed under load, again and again: how long nobody's job is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::upkeep::{own, until_applied};
use super::{Bench, bar, payload, to};
use crate::cluster::Cluster;
use crate::plot::{Plot, Scale};
use crate::report::Operation;

const KILLS: u32 = 5;
/// Load before the kill, and after the first acknowledgement behind it.
const AROUND: Duration = Duration::from_secs(2);
/// Width of the spans whose acknowledgements are counted for the plot.
const SPAN: Duration = Duration::from_millis(50);

/// Measured, and a plot of the kill with the longest gap.
pub(crate) async fn run(bench: &mut Bench, cluster: Option<&mut Cluster>) -> Result<(Vec<Operation>, Plot)> {
    let cluster = own(cluster)?;
    let mut gaps = Operation::new("leader killed: longest time without an acknowledgement", "s");
    let mut failed = Operation::new("leader killed: calls that failed", "");
    let mut longest: Option<(Duration, Vec<Duration>)> = None;
    let bar = bar("killing leaders", u64::from(KILLS));
    for _ in 0..KILLS {
        let kill = kill_once(bench, cluster).await?;
        gaps.values.push(kill.gap.as_secs_f64());
        failed.values.push(f64::from(kill.failed));
        if longest.as_ref().is_none_or(|(gap, _)| kill.gap > *gap) {
            longest = Some((kill.gap, kill.acknowledged));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    bench.reconnect(cluster.pids()).await?;
    let (_, acknowledged) = longest.context("no leader was killed")?;
    Ok((vec![gaps, failed], plot(&acknowledged)))
}

struct Kill {
    gap: Duration,
    failed: u32,
    /// When calls were acknowledged, from the beginning of the load.
    acknowledged: Vec<Duration>,
}

async fn kill_once(bench: &mut Bench, cluster: &mut Cluster) -> Result<Kill> {
    let queue = bench.queue();
    let status = bench.client.cluster_status().await.context("asking for the leader")?;
    let leader = status.leader_id.context("nobody leads")? as usize;
    ensure!(
        (1..=cluster.addresses.len()).contains(&leader),
        "node {leader} leads, which is not ours"
    );
    let stop = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..bench.args.producers() {
        let (client, stop, queue, bytes) = (
            bench.client.clone(),
            Arc::clone(&stop),
            queue.clone(),
            bench.args.payload_bytes,
        );
        callers.spawn(async move {
            let (mut acknowledged, mut failed) = (Vec::new(), 0);
            while !stop.load(Ordering::Relaxed) {
                match client
                    .enqueue_raw(payload(bytes, begin, Instant::now()), to(&queue))
                    .await
                {
                    Ok(_) => acknowledged.push(begin.elapsed()),
                    Err(_) => failed += 1,
                }
            }
            (acknowledged, failed)
        });
    }
    sleep(AROUND).await;
    cluster.kill(leader - 1)?;
    // The client repeats the call until there is a leader again, or its deadline ends the measurement.
    let now = Instant::now();
    let first = bench.client.enqueue_raw(payload(32, now, now), to(&queue)).await;
    first.context("waiting for an acknowledgement by the next leader")?;
    sleep(AROUND).await;
    stop.store(true, Ordering::Relaxed);
    let mut kill = Kill {
        gap: Duration::ZERO,
        failed: 0,
        acknowledged: Vec::new(),
    };
    while let Some(done) = callers.join_next().await {
        let (acknowledged, failed) = done.context("joining a caller")?;
        kill.acknowledged.extend(acknowledged);
        kill.failed += failed;
    }
    kill.acknowledged.sort_unstable();
    kill.gap = longest_gap(&kill.acknowledged);
    cluster.spawn(leader - 1)?;
    let status = bench
        .client
        .cluster_status()
        .await
        .context("asking for the log's end")?;
    until_applied(&cluster.addresses[leader - 1], status.applied_index).await?;
    Ok(kill)
}

/// Between two of these times, which are in order.
fn longest_gap(times: &[Duration]) -> Duration {
    let gaps = times.windows(2).filter_map(|pair| match pair {
        [one, next] => next.checked_sub(*one),
        _ => None,
    });
    gaps.max().unwrap_or_default()
}

fn plot(acknowledged: &[Duration]) -> Plot {
    let spans = acknowledged
        .last()
        .map_or(0, |last| (last.as_millis() / SPAN.as_millis()) as usize);
    let mut counts = vec![0.0; spans];
    for time in acknowledged {
        // The last span is not whole.
        if let Some(count) = counts.get_mut((time.as_millis() / SPAN.as_millis()) as usize) {
            *count += 1.0 / SPAN.as_secs_f64();
        }
    }
    let points = (0..)
        .zip(counts)
        .map(|(at, rate)| (f64::from(at) * SPAN.as_secs_f64(), rate));
    Plot {
        file: "leader-kill.svg",
        title: format!(
            "Acknowledged jobs per second, the leader killed after {} s",
            AROUND.as_secs()
        ),
        x: Scale::Linear("s"),
        y: Scale::Linear("jobs/s"),
        series: vec![("acknowledged".to_owned(), points.collect())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_is_found() {
        let times = [0, 1, 2, 900, 901].map(Duration::from_millis);
        assert_eq!(longest_gap(&times), Duration::from_millis(898));
        assert_eq!(longest_gap(&[]), Duration::ZERO);
    }

    #[test]
    fn acknowledgements_are_counted_by_spans() {
        let times: Vec<_> = [0, 10, 60, 170].map(Duration::from_millis).into();
        let plot = plot(&times);
        let rates: Vec<_> = plot.series[0].1.iter().map(|(_, rate)| rate.round()).collect();
        assert_eq!(rates, [40.0, 20.0, 0.0], "jobs per second");
    }
}
