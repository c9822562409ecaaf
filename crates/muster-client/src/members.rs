//! The nodes the client knows: which one leads, which ones to leave alone for a while.

use std::sync::Arc;
use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::cluster_service_client::ClusterServiceClient;
use parking_lot::Mutex;
use rand::Rng;
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::call::Prefer;
use crate::error::{Reason, local};

/// Nodes remembered at most; seeds come first.
const NODES_MAX: usize = 64;
/// First pause after a node failed, doubled with each further failure.
const PENALTY: Duration = Duration::from_millis(50);
const PENALTY_MAX: Duration = Duration::from_secs(5);
/// A client in use asks this often who the members are: those it began with may be gone one day.
const LEARN_EVERY: Duration = Duration::from_secs(15);
/// Longest sleep before some node is tried again, whatever its penalty.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// After so long without an answer, other nodes are asked whether the silent one still leads; and again after as long.
pub(crate) const DOUBT: Duration = Duration::from_millis(500);
/// Streams carry frames of up to 16 MiB.
const WINDOW: u32 = 8 << 20;
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Limits on the time of single steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Setting up a connection.
    pub connect: Duration,
    /// One attempt of a call: after it, another node is tried.
    pub attempt: Duration,
}

pub(crate) struct Members {
    timing: Timing,
    state: Mutex<State>,
}

struct State {
    nodes: Vec<Node>,
    leader: Option<String>,
    turn: usize,
    /// Log index of the newest membership that a node told.
    membership: u64,
    learned_at: Option<Instant>,
    /// When a node was last asked about another that stays silent, and how often that was.
    doubted_at: Option<Instant>,
    doubts: usize,
}

struct Node {
    address: String,
    seed: bool,
    /// The newest membership does not have it: it is asked when all others fail.
    retired: bool,
    channel: Option<Channel>,
    failures: u32,
    avoid_until: Option<Instant>,
}

impl Node {
    fn new(address: String, seed: bool) -> Self {
        Self {
            address,
            seed,
            retired: false,
            channel: None,
            failures: 0,
            avoid_until: None,
        }
    }

    fn is_free(&self, now: Instant) -> bool {
        self.avoid_until.is_none_or(|until| until <= now)
    }
}

/// The node to try next, not before `wait` is over.
pub(crate) struct Pick {
    pub address: String,
    pub wait: Duration,
}

impl Members {
    pub(crate) fn new(seeds: Vec<String>, timing: Timing) -> Self {
        let nodes = seeds.into_iter().map(|address| Node::new(address, true)).collect();
        Self {
            timing,
            state: Mutex::new(State {
                nodes,
                leader: None,
                turn: 0,
                membership: 0,
                learned_at: None,
                doubted_at: None,
                doubts: 0,
            }),
        }
    }

    pub(crate) fn timing(&self) -> Timing {
        self.timing
    }

    /// The leader when it is known and not failing, else the others in turn.
    pub(crate) fn pick(&self) -> Pick {
        self.pick_as(Prefer::Leader)
    }

    pub(crate) fn pick_as(&self, prefer: Prefer) -> Pick {
        let now = Instant::now();
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(leader) = &state.leader
            && prefer == Prefer::Leader
            && let Some(node) = state.nodes.iter().find(|node| &node.address == leader)
            && node.is_free(now)
        {
            return Pick {
                address: node.address.clone(),
                wait: Duration::ZERO,
            };
        }
        let count = state.nodes.len();
        for retired in [false, true] {
            for step in 0..count {
                let at = (state.turn + step) % count;
                if let Some(node) = state.nodes.get(at)
                    && node.retired == retired
                    && node.is_free(now)
                {
                    if prefer == Prefer::Any {
                        state.turn = at + 1;
                    }
                    return Pick {
                        address: node.address.clone(),
                        wait: Duration::ZERO,
                    };
                }
            }
        }
        let soonest = state.nodes.iter().min_by_key(|node| node.avoid_until);
        match soonest {
            Some(node) => Pick {
                address: node.address.clone(),
                wait: node
                    .avoid_until
                    .map_or(Duration::ZERO, |until| until - now)
                    .min(WAIT_MAX),
            },
            // `ClientBuilder` refuses an empty list.
            None => Pick {
                address: String::new(),
                wait: WAIT_MAX,
            },
        }
    }

    /// A connection to the node: the one there is, or a new one. On an error nothing was sent.
    pub(crate) async fn channel(&self, address: &str) -> Result<Channel, Reason> {
        let known = self
            .state
            .lock()
            .nodes
            .iter()
            .find(|node| node.address == address)
            .and_then(|n| n.channel.clone());
        if let Some(channel) = known {
            return Ok(channel);
        }
        let unreachable = |e: &dyn std::fmt::Display| {
            local(
                Code::Unavailable,
                "NO_NODE_REACHABLE",
                format!("connecting to {address}: {e}"),
            )
        };
        let endpoint = endpoint(address)
            .map_err(|e| unreachable(&e))?
            .connect_timeout(self.timing.connect);
        let channel = tokio::time::timeout(self.timing.connect, endpoint.connect())
            .await
            .map_err(|_| unreachable(&format_args!("no answer within {:?}", self.timing.connect)))?
            .map_err(|e| unreachable(&Causes(&e)))?;
        let mut state = self.state.lock();
        if let Some(node) = state.nodes.iter_mut().find(|node| node.address == address) {
            node.channel = Some(channel.clone());
        }
        Ok(channel)
    }

    /// The node did what was asked.
    pub(crate) fn answered(&self, address: &str) {
        let mut state = self.state.lock();
        if let Some(node) = state.nodes.iter_mut().find(|node| node.address == address) {
            node.failures = 0;
            node.avoid_until = None;
        }
    }

    /// The node could not be reached, broke off, stayed silent or said that it cannot serve now: try others first.
    /// `broken`: its connection is not to be used again. `at_least`: leave it alone for so long.
    pub(crate) fn failed(&self, address: &str, broken: bool, at_least: Duration) {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.leader.as_deref() == Some(address) {
            state.leader = None;
        }
        if let Some(at) = state.nodes.iter().position(|node| node.address == address) {
            state.turn = at + 1;
            if let Some(node) = state.nodes.get_mut(at) {
                node.failures = node.failures.saturating_add(1);
                let penalty = jittered(
                    PENALTY
                        .saturating_mul(1 << (node.failures - 1).min(10))
                        .min(PENALTY_MAX),
                );
                node.avoid_until = Some(Instant::now() + penalty.max(at_least));
                if broken {
                    node.channel = None;
                }
            }
        }
    }

    /// The leader, by a node's word. Believed unless that very node is being left alone: others may still take an
    /// isolated leader for theirs. True when the client should now talk to another node than `from`.
    pub(crate) fn hint(&self, from: &str, leader: &str) -> bool {
        let Some(leader) = normalise(leader) else { return false };
        let now = Instant::now();
        let mut state = self.state.lock();
        if let Some(node) = state.nodes.iter().find(|node| node.address == leader) {
            if !node.is_free(now) {
                return false;
            }
        } else if state.nodes.len() < NODES_MAX {
            state.nodes.push(Node::new(leader.clone(), false));
        } else {
            return false;
        }
        let moved = leader != from;
        state.leader = Some(leader);
        moved
    }

    /// Takes over the list of members that a node gave, unless a newer one is known: a node that left, or lags, may tell
    /// old ones.
    pub(crate) fn learn(&self, from: &str, status: &v1::GetStatusResponse) {
        {
            let mut state = self.state.lock();
            if status.membership_index < state.membership {
                return;
            }
            state.membership = status.membership_index;
            state.learned_at = Some(Instant::now());
        }
        let mut listed = Vec::new();
        for member in &status.members {
            if let Some(address) = normalise(&member.api_address) {
                if member.node_id == status.leader_id {
                    self.hint(from, &address);
                }
                listed.push(address);
            }
        }
        if listed.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        let leader = state.leader.clone();
        state
            .nodes
            .retain(|node| node.seed || listed.contains(&node.address) || leader.as_ref() == Some(&node.address));
        for node in &mut state.nodes {
            node.retired = !listed.contains(&node.address);
        }
        for address in listed {
            if state.nodes.len() < NODES_MAX && !state.nodes.iter().any(|node| node.address == address) {
                state.nodes.push(Node::new(address, false));
            }
        }
    }

    /// Asks a node who the members are and who leads.
    pub(crate) async fn refresh(&self, address: &str) -> Result<v1::GetStatusResponse, Reason> {
        let channel = self.channel(address).await?;
        let mut request = tonic::Request::new(v1::GetStatusRequest {});
        request.set_timeout(self.timing.attempt);
        let call = ClusterServiceClient::new(channel).get_status(request).await;
        let status = call
            .map_err(|status| {
                local(
                    status.code(),
                    "CONNECTION_BROKEN",
                    format!("{address}: {}", status.message()),
                )
            })?
            .into_inner();
        self.answered(address);
        self.learn(address, &status);
        Ok(status)
    }

    /// Another node than this one is known to lead, and is not left alone.
    fn leads_elsewhere(&self, address: &str) -> bool {
        let now = Instant::now();
        let state = self.state.lock();
        let leader = state.leader.as_deref().filter(|leader| *leader != address);
        leader.is_some_and(|leader| {
            let node = state.nodes.iter().find(|node| node.address == leader);
            node.is_some_and(|node| node.is_free(now))
        })
    }

    /// A node to ask about one that stays silent. `None` if another caller has just asked, or there is no other.
    fn second_opinion(&self, silent: &str, now: Instant) -> Option<String> {
        let mut state = self.state.lock();
        if state.doubted_at.is_some_and(|at| now - at < DOUBT) {
            return None;
        }
        let others = state
            .nodes
            .iter()
            .filter(|node| node.address != silent && !node.retired);
        let others: Vec<_> = others.map(|node| node.address.clone()).collect();
        let turn = state.doubts % others.len().max(1);
        state.doubted_at = Some(now);
        state.doubts = state.doubts.wrapping_add(1);
        others.into_iter().nth(turn)
    }

    /// Ends when it is known that another node leads than `silent`, which does not answer: a frozen machine keeps its
    /// connections and says nothing. To be dropped when it does answer.
    pub(crate) async fn until_led_elsewhere(&self, silent: &str) {
        loop {
            if self.leads_elsewhere(silent) {
                return;
            }
            if let Some(other) = self.second_opinion(silent, Instant::now()) {
                // Who is silent as well is asked again in its turn.
                let _ = tokio::time::timeout(DOUBT, self.refresh(&other)).await;
            }
            if self.leads_elsewhere(silent) {
                return;
            }
            tokio::time::sleep(DOUBT).await;
        }
    }

    /// Asks in the background who the members are, now and then.
    pub(crate) fn refresh_if_due(self: &Arc<Self>) {
        {
            let mut state = self.state.lock();
            let now = Instant::now();
            if state.learned_at.is_some_and(|at| now - at < LEARN_EVERY) {
                return;
            }
            // Nobody else need ask for the same.
            state.learned_at = Some(now);
        }
        let members = Arc::clone(self);
        tokio::spawn(async move {
            let pick = members.pick();
            // A node that does not answer is noticed by the calls.
            let _ = members.refresh(&pick.address).await;
        });
    }

    /// Addresses in the order known.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.state
            .lock()
            .nodes
            .iter()
            .map(|node| node.address.clone())
            .collect()
    }
}

fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(address.to_owned())?
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true))
}

/// With a scheme, without a trailing slash; `None` for what cannot be connected to.
pub(crate) fn normalise(address: &str) -> Option<String> {
    let address = address.trim().trim_end_matches('/');
    let bare = address.rsplit_once("://").map_or(address, |(_, bare)| bare);
    if bare.is_empty() || bare.starts_with("0.0.0.0:") || bare.starts_with("[::]:") || bare.ends_with(":0") {
        return None;
    }
    Some(if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    })
}

/// Between half of `base` and `base`, so that clients that failed together do not come back together.
pub(crate) fn jittered(base: Duration) -> Duration {
    base.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// An error with its causes: tonic's own text is only "transport error".
struct Causes<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut last = self.0;
        while let Some(source) = last.source() {
            last = source;
        }
        std::fmt::Display::fmt(last, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(addresses: &[&str]) -> Members {
        let timing = Timing {
            connect: Duration::from_secs(1),
            attempt: Duration::from_secs(1),
        };
        Members::new(
            addresses.iter().map(|address| normalise(address).unwrap()).collect(),
            timing,
        )
    }

    #[tokio::test]
    async fn a_failed_leader_is_left_for_the_others_even_when_they_still_name_it() {
        let members = members(&["a:1", "b:1"]);
        assert!(members.hint("http://b:1", "a:1"));
        assert_eq!(members.pick().address, "http://a:1");
        members.failed("http://a:1", true, Duration::from_secs(3));
        assert_eq!(members.pick().address, "http://b:1");
        assert!(
            !members.hint("http://b:1", "a:1"),
            "an isolated leader must not be followed again at once"
        );
        assert_eq!(members.pick().address, "http://b:1");
    }

    #[tokio::test]
    async fn of_all_who_doubt_one_asks_and_each_node_in_turn() {
        let members = members(&["a:1", "b:1", "c:1"]);
        let begun = Instant::now();
        assert!(members.hint("http://b:1", "a:1") && !members.leads_elsewhere("http://a:1"));
        let mut asked = Vec::new();
        for times in 0..3 {
            let now = begun + DOUBT * times;
            asked.extend(members.second_opinion("http://a:1", now));
            assert_eq!(
                members.second_opinion("http://a:1", now),
                None,
                "somebody has just asked"
            );
        }
        assert_eq!(asked, ["http://b:1", "http://c:1", "http://b:1"]);
        assert!(members.hint("http://b:1", "c:1") && members.leads_elsewhere("http://a:1"));
        members.failed("http://c:1", true, Duration::ZERO);
        assert!(!members.leads_elsewhere("http://a:1"), "one that failed is no better");
    }

    #[tokio::test]
    async fn failing_nodes_are_tried_in_turn_and_then_waited_for() {
        let members = members(&["a:1", "b:1", "c:1"]);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let pick = members.pick();
            assert_eq!(pick.wait, Duration::ZERO);
            members.failed(&pick.address, true, Duration::ZERO);
            seen.push(pick.address);
        }
        seen.sort();
        assert_eq!(seen, ["http://a:1", "http://b:1", "http://c:1"]);
        assert!(members.pick().wait > Duration::ZERO);
    }

    #[tokio::test]
    async fn members_are_learned_and_seeds_stay() {
        let members = members(&["seed:1"]);
        let member = |id, address: &str| v1::Member {
            node_id: id,
            api_address: address.into(),
            ..v1::Member::default()
        };
        let status = v1::GetStatusResponse {
            leader_id: 2,
            members: vec![member(1, "x:1"), member(2, "y:1"), member(3, "0.0.0.0:7001")],
            ..v1::GetStatusResponse::default()
        };
        members.learn("http://seed:1", &status);
        assert_eq!(members.addresses(), ["http://seed:1", "http://y:1", "http://x:1"]);
        assert_eq!(members.pick().address, "http://y:1");
    }

    #[tokio::test]
    async fn what_a_node_that_left_tells_is_not_believed_and_it_is_asked_last() {
        let members = members(&["old:1", "b:1"]);
        let status = |index, addresses: &[&str]| v1::GetStatusResponse {
            membership_index: index,
            members: addresses
                .iter()
                .map(|address| v1::Member {
                    api_address: (*address).into(),
                    ..v1::Member::default()
                })
                .collect(),
            ..v1::GetStatusResponse::default()
        };
        members.learn("http://old:1", &status(10, &["old:1", "b:1"]));
        members.learn("http://b:1", &status(20, &["b:1", "c:1"]));
        members.learn("http://old:1", &status(10, &["old:1", "b:1"]));
        let mut seen: Vec<_> = (0..3)
            .map(|_| {
                let pick = members.pick();
                members.failed(&pick.address, true, Duration::from_secs(3));
                pick.address
            })
            .collect();
        assert_eq!(
            seen.pop().as_deref(),
            Some("http://old:1"),
            "after all others: {seen:?}"
        );
        let any: Vec<_> = (0..4).map(|_| members.pick_as(Prefer::Any).address).collect();
        assert_eq!(any.len(), 4);
    }

    #[tokio::test]
    async fn reads_that_any_node_may_serve_go_round() {
        let members = members(&["a:1", "b:1"]);
        members.hint("http://b:1", "a:1");
        let mut picks: Vec<_> = (0..4).map(|_| members.pick_as(Prefer::Any).address).collect();
        picks.sort();
        assert_eq!(picks, ["http://a:1", "http://a:1", "http://b:1", "http://b:1"]);
    }

    #[test]
    fn addresses_get_a_scheme() {
        assert_eq!(normalise(" 127.0.0.1:7001/").as_deref(), Some("http://127.0.0.1:7001"));
        assert_eq!(normalise("https://a:1").as_deref(), Some("https://a:1"));
        assert_eq!(normalise("0.0.0.0:7001"), None);
        assert_eq!(normalise(""), None);
    }
}
