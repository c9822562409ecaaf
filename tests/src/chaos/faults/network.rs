//! Links between nodes cut, held, delayed, slowed.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use tokio::time::Instant;

use super::Fault;
use super::schedule::{Effect, Injector};
use crate::chaos::net::{Mode, Net};

/// How often the leader is the one, in percent.
const LEADER: u32 = 60;
/// A link taken down or up when it flaps.
const FLAP: Duration = Duration::from_millis(100);

/// It took effect if traffic met it.
pub(super) async fn inject(injector: &Injector, fault: Fault, rng: &mut StdRng) -> Effect {
    let net = &injector.net;
    let time = Duration::from_millis(rng.random_range(400..5_000));
    let node = injector.some_node(rng, LEADER);
    let others: Vec<u64> = net.ids().into_iter().filter(|id| *id != node).collect();
    // Silence or broken connections.
    let cut = if rng.random_bool(0.6) {
        Mode::held()
    } else {
        Mode::severed()
    };
    let (pairs, mode, target) = match fault {
        Fault::Split => {
            let (minority, majority) = split(net, node, rng);
            let target = format!("{minority:?} from {majority:?}");
            (Net::between(&minority, &majority), cut, target)
        }
        Fault::Bridge => {
            let (left, middle, right) = bridge(net, rng);
            let target = format!("{left:?} and {right:?} through {middle}");
            (Net::between(&left, &right), cut, target)
        }
        Fault::OneWay => {
            let (pairs, target) = one_way(node, &others, rng);
            (pairs, Mode::held(), target)
        }
        Fault::Delay => {
            let mode = Mode {
                delay: Duration::from_millis(rng.random_range(5..250)),
                jitter: Duration::from_millis(rng.random_range(0..250)),
                ..Mode::default()
            };
            (some_pairs(net, node, &others, rng), mode, format!("{:?}", mode.delay))
        }
        Fault::Throttle => {
            let mode = Mode {
                rate: rng.random_range(20_000..200_000),
                ..Mode::default()
            };
            (
                some_pairs(net, node, &others, rng),
                mode,
                format!("{} bytes/s", mode.rate),
            )
        }
        Fault::Cut => (
            some_pairs(net, node, &others, rng),
            Mode::default(),
            format!("links of node {node}"),
        ),
        _ => (Net::between(&[node], &others), cut, format!("node {node}")),
    };
    let before = net.met(&pairs);
    match fault {
        Fault::Cut => cut_often(net, &pairs, time, rng).await,
        Fault::Flap => flap(net, &pairs, cut, time).await,
        _ => {
            net.set(&pairs, mode);
            tokio::time::sleep(time).await;
        }
    }
    let took_effect = net.met(&pairs).since(before);
    net.set(&pairs, Mode::default());
    Effect {
        target: format!("{target} for {time:?}"),
        took_effect,
    }
}

/// A minority with this node in it, and the rest.
fn split(net: &Net, node: u64, rng: &mut StdRng) -> (Vec<u64>, Vec<u64>) {
    let mut others: Vec<u64> = net.ids().into_iter().filter(|id| *id != node).collect();
    others.shuffle(rng);
    let majority = others.split_off(others.len() / 2 - 1);
    others.push(node);
    (others, majority)
}

/// Two groups and the node between them.
fn bridge(net: &Net, rng: &mut StdRng) -> (Vec<u64>, u64, Vec<u64>) {
    let mut ids = net.ids();
    ids.shuffle(rng);
    let middle = ids.remove(0);
    let right = ids.split_off(ids.len() / 2);
    (ids, middle, right)
}

/// From a node to one or all others, or the other way.
fn one_way(node: u64, others: &[u64], rng: &mut StdRng) -> (Vec<(u64, u64)>, String) {
    let all = rng.random_bool(0.5);
    let one = others.choose(rng).copied().unwrap_or(node);
    let ends: Vec<u64> = if all { others.to_vec() } else { vec![one] };
    if rng.random_bool(0.5) {
        let pairs = ends.iter().map(|end| (node, *end)).collect();
        (pairs, format!("from node {node} to {ends:?}"))
    } else {
        let pairs = ends.iter().map(|end| (*end, node)).collect();
        (pairs, format!("from {ends:?} to node {node}"))
    }
}

/// All links, or those of one node.
fn some_pairs(net: &Net, node: u64, others: &[u64], rng: &mut StdRng) -> Vec<(u64, u64)> {
    if rng.random_bool(0.3) {
        let mut pairs = Net::between(&net.ids(), &net.ids());
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    } else {
        Net::between(&[node], others)
    }
}

/// Cuts one connection after the other after a random number of bytes.
async fn cut_often(net: &Net, pairs: &[(u64, u64)], time: Duration, rng: &mut StdRng) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if let Some((from, to)) = pairs.choose(rng) {
            net.flow(*from, *to).cut_after(rng.random_range(1..20_000));
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..200))).await;
    }
}

async fn flap(net: &Net, pairs: &[(u64, u64)], cut: Mode, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        net.set(pairs, cut);
        tokio::time::sleep(FLAP).await;
        net.set(pairs, Mode::default());
        tokio::time::sleep(FLAP).await;
    }
}
