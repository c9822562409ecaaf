//! One node: everything that runs on the raft thread, from start to shutdown.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use muster_core::{Command, LogIndex, Reply, SessionId};
use muster_failpoint::{Injected, failpoint};
use muster_proto::peer as wire;
use muster_proto::peer::peer_server::PeerServer as PeerService;
use muster_store::Store;
use openraft::async_runtime::WatchReceiver;
use openraft::{Config, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::agreement::{Agreement, HashBook};
use crate::bootstrap::{self, Starter};
use crate::clock::ReplicatedClock;
use crate::contact::Contact;
use crate::error::{Error, ProposeError};
use crate::facts::Facts;
use crate::figures::Figures;
use crate::freshness::Confirmations;
use crate::leadership::{Lead, watch_leadership};
use crate::level::NewCluster;
use crate::membership::{self, Membership};
use crate::memory::{Memory, MemoryWatch};
use crate::options::RaftOptions;
use crate::peer::{Channels, Lane, MESSAGE_BYTES_MAX, Network, PeerServer, Running, session_out};
use crate::proposer::{Call, Gates, Proposer, Submitter};
use crate::purge::Purger;
use crate::reads::{ReadCall, Reader, confirm};
use crate::refill::Refill;
use crate::role::Role;
use crate::room::{self, RoomWatch};
use crate::silence::report_silence;
use crate::sink::ApplySink;
use crate::storage::{Applied, Checkpointer, LogAdapter, Machine, MachineParts, Watches};
use crate::succession::{Ours, watch_succession};
use crate::types::{Address, LeaderId, OpenRaft};
use crate::witness::Witnesses;

/// What a node is started with.
pub(crate) struct Seed {
    pub(crate) options: RaftOptions,
    pub(crate) store: Store,
    pub(crate) sink: Arc<dyn ApplySink>,
    pub(crate) listener: TcpListener,
    pub(crate) stop: CancellationToken,
}

/// What the handle gets of a node that takes part.
pub(crate) struct Started {
    pub(crate) raft: OpenRaft,
    pub(crate) state: Arc<Mutex<Applied>>,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) submitter: Submitter,
    pub(crate) reads: mpsc::UnboundedSender<ReadCall>,
    pub(crate) vouches: mpsc::Sender<VouchCall>,
    pub(crate) applied: watch::Receiver<LogIndex>,
    pub(crate) lead: watch::Receiver<Lead>,
    pub(crate) role: watch::Receiver<Role>,
    pub(crate) fatal: Arc<watch::Sender<Option<Error>>>,
    pub(crate) cluster: u128,
    pub(crate) clock: Arc<ReplicatedClock>,
    pub(crate) memory: Memory,
    pub(crate) archived: Arc<AtomicU64>,
    pub(crate) confirmations: Confirmations,
    /// To look at and change the membership.
    pub(crate) membership: membership::Parts,
    pub(crate) facts: Facts,
}

/// Sessions to vouch for with the leader.
pub(crate) struct VouchCall {
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) reply: oneshot::Sender<Result<(), ProposeError>>,
}

/// Longest wait for a vouch; it is repeated anyway.
const VOUCH_DEADLINE: Duration = Duration::from_secs(2);
/// Longest wait for open peer streams at shutdown.
const SERVER_STOP: Duration = Duration::from_millis(500);

/// Runs a node until `seed.stop`. `started` gets the parts of the handle, or why there are none.
pub(crate) async fn run(seed: Seed, started: oneshot::Sender<Result<Started, Error>>) {
    let stop = seed.stop.clone();
    let closing = CancellationToken::new();
    let outcome = tokio::select! {
        outcome = start(seed, closing.clone()) => outcome,
        () = stop.cancelled() => Err(Error::Stopped),
    };
    let (handle, server) = match outcome {
        Ok(parts) => parts,
        Err(error) => {
            closing.cancel();
            // Nobody waits any more when the start was given up.
            let _gone = started.send(Err(error));
            return;
        }
    };
    let (raft, checkpointer, fatal) = (handle.raft.clone(), handle.checkpointer.clone(), handle.fatal.clone());
    if started.send(Ok(handle)).is_ok() {
        stop.cancelled().await;
    }
    if fatal.borrow().is_some() {
        closing.cancel();
        server.abort();
        return;
    }
    if let Err(error) = raft.shutdown().await {
        tracing::error!(%error, "raft did not end in order");
    }
    closing.cancel();
    if tokio::time::timeout(SERVER_STOP, server).await.is_err() {
        tracing::debug!("streams of other nodes were cut at shutdown");
    }
    // Optional: it only shortens the next start.
    match tokio::task::spawn_blocking(move || checkpointer.write()).await {
        Ok(Ok(stats)) => tracing::info!(applied = stats.applied, "last checkpoint written"),
        Ok(Err(error)) => tracing::warn!(%error, "the last checkpoint was not written"),
        Err(error) => tracing::warn!(%error, "the last checkpoint was not written"),
    }
}

type ServerTask = tokio::task::JoinHandle<()>;

async fn start(seed: Seed, closing: CancellationToken) -> Result<(Started, ServerTask), Error> {
    let Seed {
        options,
        store,
        sink,
        listener,
        stop,
    } = seed;
    let channels = Channels::new(&options);
    let contact = Contact::new();
    let server = PeerServer {
        node: options.node,
        configured: bootstrap::configured(&options),
        store: store.clone(),
        // Known from the first answer on: who asks may be about to choose an id for a new cluster.
        cluster: Arc::new(watch::Sender::new(store.identity().map(|identity| identity.cluster))),
        running: Arc::new(OnceLock::new()),
        receiving: Arc::default(),
        contact: contact.clone(),
    };
    let serving = serve(listener, server.clone(), closing)?;
    let state = Arc::new(Mutex::new(load(&store).await?));
    let members = state.lock().members();
    channels.set_members(members.iter().map(|member| (member.id, member.peer.clone())).collect());
    if store.refilling() {
        channels.note(store.members());
    }
    let starter = Starter {
        options: &options,
        store: &store,
        channels: &channels,
        cluster: &server.cluster,
        known_at: members.into_iter().find(|member| member.id == options.node),
    };
    let belongs = starter.identify().await?;
    let cluster = belongs.cluster;
    channels.bind(cluster);
    check_cluster(&state, cluster)?;
    check_level(&state, &options)?;
    let checkpointer = Checkpointer::new(store.clone(), state.clone());
    let applied = watch::Sender::new(0);
    let applied_lead = watch::Sender::new(None::<LeaderId>);
    let changed = watch::Sender::new(0);
    let watch_changes = changed.subscribe();
    let clock = Arc::new(ReplicatedClock::new());
    let memory = Memory::new(options.jobs_memory);
    let book = HashBook::new(options.state_hash_every);
    let fatal = Arc::new(watch::Sender::new(None));
    let machine = Machine::new(MachineParts {
        state: state.clone(),
        store: store.clone(),
        checkpointer: checkpointer.clone(),
        sink: sink.clone(),
        watches: Watches {
            applied: applied.clone(),
            lead: applied_lead.clone(),
            changed,
        },
        clock: clock.clone(),
        memory: memory.clone(),
        book: book.clone(),
        node: options.node,
        level_max: options.level_max,
        fatal: fatal.clone(),
    });
    let alarm = fatal.clone();
    store.on_failure(Box::new(move |failure| {
        let reason = failure.error.to_string();
        let error = if failure.damage {
            Error::Damaged(reason)
        } else {
            Error::Storage(reason)
        };
        alarm.send_replace(Some(error));
    }));
    let log = LogAdapter::new(store.clone());
    let config = Arc::new(config(&options, cluster, !store.refilling())?);
    let network = Network {
        channels: channels.clone(),
        store: store.clone(),
    };
    let raft = OpenRaft::new(options.node, config, network, log, machine).await;
    let raft = raft.map_err(|err| Error::Raft(err.to_string()))?;
    if !belongs.placed {
        // Nobody could be asked, and no checkpoint tells: then the log on this disk does, if it has come so far.
        let logged = raft.with_raft_state(|state| Membership::from(&**state.membership_state.effective()));
        let logged = logged.await.map_err(|err| Error::Raft(err.to_string()))?;
        let own = logged.members.iter().find(|member| member.id == options.node);
        own.map_or(Ok(()), |own| bootstrap::check_place(&options, own))?;
    }

    let lead = watch::Sender::new(Lead::Nobody { term: 0 });
    let role = watch::Sender::new(Role::Follower { term: 0, leader: None });
    let (calls, received_calls) = mpsc::unbounded_channel();
    let (reads, received_reads) = mpsc::unbounded_channel();
    let (vouches, received_vouches) = mpsc::channel(64);
    let submitter = Submitter::new(&options, calls.clone());
    let witnesses = Witnesses::default();
    let (facts, gate) = (Facts::new(options.level_max), room::Gate::default());
    facts.set_jobs_memory(memory.own());
    let parts = membership::Parts {
        options: options.clone(),
        raft: raft.clone(),
        store: store.clone(),
        state: state.clone(),
        channels: channels.clone(),
        submitter: submitter.clone(),
        role: role.subscribe(),
        lead: lead.subscribe(),
        changed: watch_changes,
        contact,
        cluster,
        fatal: fatal.clone(),
        stage: Arc::new(watch::Sender::new(None)),
    };
    membership::spawn(&parts, &stop);
    let running = Running {
        cluster,
        membership: parts.clone(),
        raft: raft.clone(),
        calls,
        reads: reads.clone(),
        admission: submitter.admission.clone(),
        sink: sink.clone(),
        lead: lead.subscribe(),
        role: role.subscribe(),
        witnesses: witnesses.clone(),
        facts: facts.clone(),
    };
    let _only_once = server.running.set(running);

    let handle = Started {
        raft: raft.clone(),
        state: state.clone(),
        checkpointer,
        submitter: submitter.clone(),
        reads,
        vouches,
        applied: applied.subscribe(),
        lead: lead.subscribe(),
        role: role.subscribe(),
        fatal: fatal.clone(),
        clock,
        cluster,
        archived: Arc::default(),
        confirmations: Confirmations::default(),
        membership: parts,
        facts: facts.clone(),
        memory: memory.clone(),
    };
    tokio::spawn(witnesses.watch(raft.clone(), stop.clone()));
    let room = RoomWatch {
        node: options.node,
        raft: raft.clone(),
        store: store.clone(),
        facts: facts.clone(),
        gate: gate.clone(),
        lead: lead.subscribe(),
    };
    tokio::spawn(room.run(stop.clone()));
    let watch = MemoryWatch {
        node: options.node,
        raft: raft.clone(),
        facts: facts.clone(),
        memory: memory.clone(),
    };
    tokio::spawn(watch.run(stop.clone()));
    let agreement = Agreement {
        node: options.node,
        raft: raft.clone(),
        store: store.clone(),
        state: state.clone(),
        book,
        facts: facts.clone(),
    };
    tokio::spawn(agreement.run(fatal.clone(), stop.clone()));
    tokio::spawn(
        facts
            .clone()
            .exchange(options.node, raft.clone(), channels.clone(), stop.clone()),
    );
    let purger = Purger {
        raft: raft.clone(),
        store: store.clone(),
        channels: channels.clone(),
        options: options.clone(),
        archived: handle.archived.clone(),
    };
    tokio::spawn(purger.run(stop.clone()));
    tokio::spawn(watch_succession(
        raft.clone(),
        channels.clone(),
        Ours {
            node: options.node,
            cluster,
            predecessor: store.identity().and_then(|identity| identity.predecessor),
        },
        fatal.clone(),
        stop.clone(),
    ));
    if store.refilling() {
        let refill = Refill {
            node: options.node,
            raft: raft.clone(),
            store: store.clone(),
            channels: channels.clone(),
        };
        tokio::spawn(refill.run(fatal.clone(), stop.clone()));
    }
    tokio::spawn(report_silence(
        raft.clone(),
        channels.clone(),
        options.node,
        options.election_max,
        stop.clone(),
    ));
    spawn_tasks(
        &handle,
        &options,
        &channels,
        Received {
            calls: received_calls,
            reads: received_reads,
            vouches: received_vouches,
        },
        Gates {
            room: gate,
            memory: memory.clone(),
        },
        &stop,
    );
    tokio::spawn(first_command(
        role.subscribe(),
        state,
        submitter,
        cluster,
        NewCluster {
            raft: raft.clone(),
            facts,
            node: options.node,
        },
        fatal.clone(),
        stop.clone(),
    ));
    let node = options.node;
    let lead_task = watch_leadership(node, raft.clone(), applied_lead.subscribe(), lead, role, stop.clone());
    let (stopped, watched) = (stop.clone(), raft.clone());
    tokio::spawn(async move {
        lead_task.await;
        if !stopped.is_cancelled() {
            let reason = watched.metrics().borrow_watched().running_state.clone();
            let reason = reason
                .err()
                .map_or_else(|| "its task ended".to_owned(), |fatal| fatal.to_string());
            tracing::error!(node, reason, "raft stopped; the process must end");
            // What the storage said first is the cause.
            fatal.send_if_modified(|fatal| {
                let first = fatal.is_none();
                fatal.get_or_insert(Error::Raft(reason));
                first
            });
        }
    });

    // A node that is refilled has taken part, whatever its log says now.
    let initialised = store.refilling()
        || raft
            .is_initialized()
            .await
            .map_err(|err| Error::Raft(err.to_string()))?;
    if !initialised && belongs.founder && starter.prepare_initialise(cluster).await? {
        let members: BTreeMap<_, _> = options
            .members
            .iter()
            .map(|member| {
                let address = Address {
                    peer: member.peer.clone(),
                    api: member.api.clone(),
                };
                (member.id, address)
            })
            .collect();
        if let Err(error) = raft.initialize(members).await {
            // A vote of a faster node may have come in between: then there is a cluster.
            tracing::info!(node, %error, "raft was not initialised here");
        }
    }
    Ok((handle, serving))
}

/// What the handle asks for.
struct Received {
    calls: UnboundedReceiver<Call>,
    reads: UnboundedReceiver<ReadCall>,
    vouches: mpsc::Receiver<VouchCall>,
}

fn spawn_tasks(
    handle: &Started,
    options: &RaftOptions,
    channels: &Channels,
    received: Received,
    gates: Gates,
    stop: &CancellationToken,
) {
    let raft = &handle.raft;
    let proposer = Proposer::new(
        options.clone(),
        raft.clone(),
        channels.clone(),
        handle.lead.clone(),
        received.calls,
        handle.clock.clone(),
        gates,
    );
    tokio::spawn(proposer.run(stop.clone()));
    let reader = Reader {
        raft: raft.clone(),
        channels: channels.clone(),
        lead: handle.lead.clone(),
        calls: received.reads,
        confirmations: handle.confirmations.clone(),
    };
    tokio::spawn(reader.run(stop.clone()));
    tokio::spawn(confirm(handle.reads.clone(), stop.clone()));
    tokio::spawn(send_vouches(
        channels.clone(),
        handle.lead.clone(),
        received.vouches,
        stop.clone(),
    ));
    let figures = Figures {
        node: options.node,
        raft: raft.clone(),
        state: handle.state.clone(),
        confirmations: handle.confirmations.clone(),
    };
    tokio::spawn(figures.publish(stop.clone()));
}

/// `votes`: false for a node that is being refilled.
fn config(options: &RaftOptions, cluster: u128, votes: bool) -> Result<Config, Error> {
    let (least, lease) = options.election_timeouts();
    let config = Config {
        cluster_name: format!("{cluster:032x}"),
        heartbeat_interval: options.heartbeat.as_millis() as u64,
        election_timeout_min: least.as_millis() as u64,
        election_timeout_max: lease.as_millis() as u64,
        // For the whole transfer of a snapshot.
        install_snapshot_timeout: 600_000,
        max_payload_entries: 1_024,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(true),
        // A node that led before a restart stands for election like any other. Resuming under the old term would answer
        // reads before it knows what was committed, and after a power cut its log may lack entries that its followers
        // had synced and committed in that very term.
        enable_leader_restore: Some(false),
        enable_elect: votes,
        // A node that is refilled begins with an empty log. What the others must not do with one that lost what it
        // acknowledged is count its vote, and it gives none.
        allow_log_reversion: Some(true),
        backoff: "100ms".to_owned(),
        ..Config::default()
    };
    config.validate().map_err(|err| Error::Options(err.to_string()))
}

fn serve(listener: TcpListener, server: PeerServer, closing: CancellationToken) -> Result<ServerTask, Error> {
    let failed = |err: std::io::Error| Error::Start(format!("peer listener: {err}"));
    listener.set_nonblocking(true).map_err(failed)?;
    let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).map_err(failed)?);
    let service = PeerService::new(server)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let router = Server::builder()
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(2)))
        .http2_keepalive_timeout(Some(Duration::from_secs(4)))
        .add_service(service);
    Ok(tokio::spawn(async move {
        let served = router.serve_with_incoming_shutdown(incoming.with_nodelay(Some(true)), closing.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the peer server failed");
        }
    }))
}

async fn load(store: &Store) -> Result<Applied, Error> {
    let store = store.clone();
    let begun = Instant::now();
    let loaded = tokio::task::spawn_blocking(move || {
        let loaded = store.state().load()?;
        let (rows, read) = (loaded.rows.len(), begun.elapsed());
        let applied = Applied::restore(loaded)?;
        tracing::info!(rows, ?read, took = ?begun.elapsed(), "the saved state is loaded");
        Ok(applied)
    });
    loaded.await.map_err(|err| Error::Start(err.to_string()))?
}

/// A state without a cluster is one from before the first command.
fn check_cluster(state: &Mutex<Applied>, identity: u128) -> Result<(), Error> {
    let state = state.lock().core.meta().cluster;
    if state == 0 || state == identity {
        return Ok(());
    }
    Err(Error::MixedData { state, identity })
}

/// Data of a level that this program does not understand.
fn check_level(state: &Mutex<Applied>, options: &RaftOptions) -> Result<(), Error> {
    let state = state.lock();
    let needed = state.core.level();
    if needed > options.level_max {
        return Err(Error::LevelTooHigh {
            node: options.node,
            index: state.core.meta().applied,
            needed,
            newest: options.level_max,
        });
    }
    Ok(())
}

/// Proposes `Bootstrap` when this node leads a cluster whose log is not bound to its id yet, and stops the node when
/// the log turns out to be another cluster's.
async fn first_command(
    mut role: watch::Receiver<Role>,
    state: Arc<Mutex<Applied>>,
    submitter: Submitter,
    cluster: u128,
    new: NewCluster,
    fatal: Arc<watch::Sender<Option<Error>>>,
    stop: CancellationToken,
) {
    loop {
        let leads = role.borrow_and_update().is_leader();
        if let Err(error) = check_cluster(&state, cluster) {
            tracing::error!(%error, "the process must end");
            fatal.send_replace(Some(error));
            return;
        }
        if leads {
            if state.lock().core.meta().cluster == cluster {
                return;
            }
            let deadline = Instant::now() + Duration::from_secs(5);
            match submitter.submit(vec![Command::Bootstrap { cluster }], deadline).await {
                Ok(replies) if replies == [Reply::Done] => {
                    tokio::spawn(new.clone().raise(submitter.clone(), stop.clone()));
                }
                other => tracing::info!(?other, "the log is not bound to the cluster yet"),
            }
            if state.lock().core.meta().cluster != cluster {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            continue;
        }
        tokio::select! {
            changed = role.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

async fn send_vouches(
    channels: Channels,
    lead: watch::Receiver<Lead>,
    mut calls: mpsc::Receiver<VouchCall>,
    stop: CancellationToken,
) {
    loop {
        let call = tokio::select! {
            call = calls.recv() => call,
            () = stop.cancelled() => return,
        };
        let Some(call) = call else { return };
        let (channels, lead) = (channels.clone(), *lead.borrow());
        tokio::spawn(async move {
            let result = vouch(&channels, lead, call.sessions).await;
            let _gone = call
                .reply
                .send(result.map_err(|reason| ProposeError::NotDone { reason }));
        });
    }
}

async fn vouch(channels: &Channels, lead: Lead, sessions: Vec<SessionId>) -> Result<(), String> {
    let Lead::Other { node, .. } = lead else {
        return Err("no leader is known".to_owned());
    };
    let mut client = channels
        .client(node, None, Lane::Control)
        .map_err(|err| err.to_string())?;
    let mut request = tonic::Request::new(wire::VouchRequest {
        header: Some(channels.header(node)),
        sessions: sessions.into_iter().map(session_out).collect(),
    });
    request.set_timeout(VOUCH_DEADLINE);
    failpoint!("peer.vouch.before_send", Injected::into_text);
    let answer = client.vouch(request).await;
    answer.map(drop).map_err(|status| status.to_string())
}
