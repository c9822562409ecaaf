//! Rules about nodes, and about administrative requests that come twice.

use crate::testing::*;
use crate::*;

const MINUTE: u64 = 60_000;

fn member(node: NodeId, voter: bool) -> Member {
    Member {
        node,
        peer: format!("peer-{node}").into(),
        api: format!("api-{node}").into(),
        voter,
    }
}

/// A cluster of these voters.
fn cluster(voters: &[NodeId]) -> Bed {
    let mut bed = Bed::new();
    bed.members(voters, &[]);
    bed
}

impl Bed {
    /// A membership entry, applied as `all` does.
    fn members(&mut self, voters: &[NodeId], learners: &[NodeId]) {
        let voters = voters.iter().map(|node| member(*node, true));
        let members: Vec<_> = voters.chain(learners.iter().map(|node| member(*node, false))).collect();
        let mut twin = Core::restore(self.core.rows()).unwrap();
        self.index += 1;
        twin.set_members(self.index, &members);
        self.events = self.core.set_members(self.index, &members).events;
        self.core.check_invariants().unwrap();
        assert_eq!(self.core.meta(), twin.meta());
    }

    fn cluster(&mut self, command: ClusterCommand) -> Result<Reply, ClusterRefusal> {
        match self.one(Command::Cluster(Box::new(command))) {
            Reply::Refused(Refusal::Cluster(refusal)) => Err(refusal),
            Reply::Refused(other) => panic!("{other:?}"),
            reply => Ok(reply),
        }
    }

    fn token(&mut self, node: NodeId, replaces: NodeId) -> Result<Reply, ClusterRefusal> {
        self.cluster(ClusterCommand::CreateJoinToken {
            node,
            hash: [node as u8; 32],
            ttl: MINUTE,
            voter: true,
            replaces,
            peer: "".into(),
            api: "".into(),
        })
    }

    fn join(&mut self, node: NodeId, instance: u128) -> Result<Reply, ClusterRefusal> {
        self.cluster(ClusterCommand::Join {
            node,
            hash: [node as u8; 32],
            instance,
            peer: format!("peer-{node}").into(),
            api: format!("api-{node}").into(),
        })
    }

    fn change(&mut self, change: MembershipChange) -> Result<Reply, ClusterRefusal> {
        self.cluster(ClusterCommand::Change(change))
    }

    fn drain(&mut self, node: NodeId, drained: bool) -> Result<Reply, ClusterRefusal> {
        let note = "maintenance".into();
        self.cluster(ClusterCommand::Drain { node, drained, note })
    }

    fn end_change(&mut self, outcome: ChangeOutcome) {
        let current = self.core.membership_changes().current.as_ref();
        let change = current.map(|change| change.id).expect("one is under way");
        let ended = self.cluster(ClusterCommand::EndChange { change, outcome });
        assert_eq!(ended, Ok(Reply::Done));
    }

    fn node_state(&self, node: NodeId) -> Option<(NodeState, bool, bool)> {
        self.core.node(node).map(|row| (row.state, row.voter, row.drained))
    }

    fn under_way(&self) -> Option<String> {
        let current = self.core.membership_changes().current.as_ref();
        current.map(|change| change.change.to_string())
    }
}

fn undone(reason: &str) -> ChangeOutcome {
    ChangeOutcome::Undone { reason: reason.into() }
}

#[test]
fn a_node_joins_once_with_its_token() {
    let mut bed = cluster(&[1, 2, 3]);
    assert_eq!(bed.token(2, 0), Err(ClusterRefusal::NodeIdUsed { node: 2, next: 4 }));
    assert_eq!(bed.join(4, 7), Err(ClusterRefusal::TokenUnknown { node: 4 }));
    let expires_at = bed.now + MINUTE;
    assert_eq!(bed.token(4, 0), Ok(Reply::JoinToken { expires_at }));
    assert_eq!(bed.core.next_node_id(), 5, "promised ids are not offered again");
    let id = bed.index + 1;
    assert_eq!(bed.join(4, 7), Ok(Reply::ChangeBegun { id }));
    assert_eq!(bed.under_way().as_deref(), Some("add node 4"));
    assert_eq!(bed.node_state(4), Some((NodeState::Joining, false, false)));
    // The first answer was lost; a copy of the token elsewhere is worth nothing.
    assert_eq!(bed.join(4, 7), Ok(Reply::ChangeBegun { id }));
    assert_eq!(bed.join(4, 8), Err(ClusterRefusal::TokenUsed { node: 4 }));
    assert_eq!(bed.core.join_tokens().count(), 0);
    bed.members(&[1, 2, 3], &[4]);
    bed.members(&[1, 2, 3, 4], &[]);
    bed.end_change(ChangeOutcome::Done);
    assert_eq!(bed.node_state(4), Some((NodeState::Member, true, false)));
    assert_eq!(bed.under_way(), None);
    let last = bed.core.membership_changes().last.clone().expect("one ended");
    assert_eq!((last.change.id, last.outcome), (id, ChangeOutcome::Done));
}

#[test]
fn a_token_can_expire_and_be_revoked_and_meant_for_an_address() {
    let mut bed = cluster(&[1, 2, 3]);
    bed.token(4, 0).unwrap();
    let at = bed.now + MINUTE;
    bed.now = at;
    assert_eq!(
        bed.join(4, 7),
        Err(ClusterRefusal::TokenExpired { node: 4, at, now: at })
    );
    bed.token(5, 0).unwrap();
    assert_eq!(
        bed.core.join_tokens().count(),
        1,
        "expired ones go when another is made"
    );
    bed.cluster(ClusterCommand::RevokeJoinToken { node: 5 }).unwrap();
    assert_eq!(bed.join(5, 7), Err(ClusterRefusal::TokenUnknown { node: 5 }));
    let token = |peer: &str| ClusterCommand::CreateJoinToken {
        node: 6,
        hash: [6; 32],
        ttl: MINUTE,
        voter: true,
        replaces: 0,
        peer: peer.into(),
        api: "".into(),
    };
    bed.cluster(token("elsewhere")).unwrap();
    assert!(matches!(
        bed.join(6, 7),
        Err(ClusterRefusal::AddressUnexpected { node: 6, .. })
    ));
    bed.cluster(token("peer-6")).unwrap();
    assert!(bed.join(6, 7).is_ok());
    for ttl in [MINUTE - 1, 24 * 60 * MINUTE + 1] {
        let mut token = token("");
        if let ClusterCommand::CreateJoinToken { node, ttl: of, .. } = &mut token {
            (*node, *of) = (9, ttl);
        }
        let reply = bed.one(Command::Cluster(Box::new(token)));
        assert!(matches!(reply, Reply::Refused(Refusal::OutOfRange { .. })), "{reply:?}");
    }
}

#[test]
fn changes_come_one_at_a_time_and_can_be_given_up() {
    let mut bed = cluster(&[1, 2, 3]);
    bed.token(4, 0).unwrap();
    bed.token(5, 0).unwrap();
    let Ok(Reply::ChangeBegun { id }) = bed.join(4, 7) else {
        panic!("refused")
    };
    let busy = ClusterRefusal::ChangeUnderWay {
        id,
        change: "add node 4".into(),
    };
    assert_eq!(bed.join(5, 8), Err(busy.clone()), "its token stays good");
    assert_eq!(bed.change(MembershipChange::Remove { node: 3 }), Err(busy));
    let abort = |change| ClusterCommand::AbortChange {
        change,
        reason: "no disk".into(),
    };
    let none = ClusterRefusal::NoSuchChange { id: id + 9 };
    assert_eq!(bed.cluster(abort(id + 9)), Err(none));
    assert_eq!(bed.cluster(abort(id)), Ok(Reply::Done));
    let current = bed
        .core
        .membership_changes()
        .current
        .clone()
        .expect("until the leader ends it");
    assert!(current.aborted);
    bed.end_change(undone("no disk"));
    assert_eq!(bed.node_state(4), Some((NodeState::Removed, false, false)));
    assert!(matches!(
        bed.join(4, 7),
        Err(ClusterRefusal::NodeRemoved { node: 4, .. })
    ));
    assert!(matches!(
        bed.token(4, 0),
        Err(ClusterRefusal::NodeIdUsed { node: 4, .. })
    ));
    assert!(bed.join(5, 8).is_ok());
    // The end of one that is over ends no other.
    let late = ClusterCommand::EndChange {
        change: id,
        outcome: ChangeOutcome::Done,
    };
    assert_eq!(bed.cluster(late), Ok(Reply::Done));
    assert_eq!(bed.under_way().as_deref(), Some("add node 5"));
}

#[test]
fn a_node_that_leaves_is_drained_first_and_never_comes_back() {
    let mut bed = cluster(&[1, 2, 3]);
    assert!(bed.change(MembershipChange::Remove { node: 3 }).is_ok());
    assert_eq!(bed.node_state(3), Some((NodeState::Member, true, true)));
    bed.end_change(undone("given up"));
    assert_eq!(bed.node_state(3), Some((NodeState::Member, true, false)));
    assert!(bed.change(MembershipChange::Remove { node: 3 }).is_ok());
    assert!(bed.drain(3, false).is_err(), "it leaves");
    bed.members(&[1, 2], &[]);
    bed.end_change(ChangeOutcome::Done);
    assert_eq!(bed.node_state(3), Some((NodeState::Removed, false, false)));
    let gone = bed.change(MembershipChange::Remove { node: 3 });
    assert!(matches!(gone, Err(ClusterRefusal::NodeRemoved { node: 3, .. })));
    let unknown = bed.change(MembershipChange::Promote { node: 9 });
    assert_eq!(unknown, Err(ClusterRefusal::UnknownNode { node: 9 }));
    bed.change(MembershipChange::Demote { node: 2 }).unwrap();
    bed.members(&[1], &[2]);
    bed.end_change(ChangeOutcome::Done);
    let last = ClusterRefusal::LastVoter { node: 1 };
    assert_eq!(bed.change(MembershipChange::Remove { node: 1 }), Err(last.clone()));
    assert_eq!(bed.change(MembershipChange::Demote { node: 1 }), Err(last));
    assert_eq!(
        bed.change(MembershipChange::Demote { node: 2 }),
        Err(ClusterRefusal::NotVoter { node: 2 })
    );
    assert_eq!(
        bed.change(MembershipChange::Promote { node: 1 }),
        Err(ClusterRefusal::AlreadyVoter { node: 1 })
    );
}

#[test]
fn a_replacement_needs_a_voter_to_replace() {
    let mut bed = cluster(&[1, 2, 3]);
    bed.members(&[1, 2, 3], &[4]);
    assert_eq!(bed.token(5, 9), Err(ClusterRefusal::UnknownNode { node: 9 }));
    assert_eq!(bed.token(5, 4), Err(ClusterRefusal::NotVoter { node: 4 }));
    bed.token(5, 3).unwrap();
    bed.join(5, 7).unwrap();
    assert_eq!(bed.under_way().as_deref(), Some("replace node 3 by node 5"));
    assert_eq!(
        bed.node_state(3),
        Some((NodeState::Member, true, false)),
        "it serves on"
    );
    bed.drain(3, true).unwrap();
    bed.members(&[1, 2, 5], &[4]);
    bed.end_change(ChangeOutcome::Done);
    assert_eq!(bed.node_state(3), Some((NodeState::Removed, false, false)));
    // A new node on the machine of the one it replaces has its addresses.
    let join = |node, at: NodeId| ClusterCommand::Join {
        node,
        hash: [node as u8; 32],
        instance: 9,
        peer: format!("peer-{at}").into(),
        api: format!("api-{at}").into(),
    };
    bed.token(7, 2).unwrap();
    let taken = bed.cluster(join(7, 1));
    assert!(
        matches!(taken, Err(ClusterRefusal::AddressTaken { node: 1, .. })),
        "{taken:?}"
    );
    bed.cluster(join(7, 2)).unwrap();
    bed.end_change(undone("no"));
    bed.token(6, 2).unwrap();
    bed.change(MembershipChange::Remove { node: 2 }).unwrap();
    bed.members(&[1, 5], &[4]);
    bed.end_change(ChangeOutcome::Done);
    assert!(matches!(
        bed.join(6, 8),
        Err(ClusterRefusal::NodeRemoved { node: 2, .. })
    ));
}

#[test]
fn addresses_belong_to_one_node() {
    let mut bed = cluster(&[1, 2, 3]);
    let moved = |node, peer: &str| MembershipChange::SetAddress {
        node,
        peer: peer.into(),
        api: format!("api-{node}").into(),
    };
    let same = bed.change(moved(3, "peer-3"));
    assert_eq!(same, Ok(Reply::ChangeBegun { id: 0 }), "nothing to change");
    for taken in ["peer-1", "api-2"] {
        let refusal = bed.change(moved(3, taken));
        assert!(
            matches!(refusal, Err(ClusterRefusal::AddressTaken { .. })),
            "{refusal:?}"
        );
    }
    assert!(bed.change(moved(3, "peer-9")).is_ok());
}

#[test]
fn somebody_is_left_to_lead() {
    let mut bed = cluster(&[1, 2, 3]);
    bed.drain(1, true).unwrap();
    assert!(bed.events.iter().any(|event| matches!(
        event,
        Event::NodeChanged {
            node: 1,
            drained: true,
            ..
        }
    )));
    bed.drain(1, true).unwrap();
    assert!(bed.events.is_empty(), "nothing changed");
    bed.drain(2, true).unwrap();
    let last = ClusterRefusal::LastUndrained { node: 3 };
    assert_eq!(bed.drain(3, true), Err(last.clone()));
    assert_eq!(bed.change(MembershipChange::Remove { node: 3 }), Err(last));
    assert!(bed.change(MembershipChange::Remove { node: 2 }).is_ok());
    assert_eq!(bed.drain(9, true), Err(ClusterRefusal::UnknownNode { node: 9 }));
    bed.drain(1, false).unwrap();
    assert_eq!(bed.node_state(1), Some((NodeState::Member, true, false)));
}

#[test]
fn tokens_are_bounded() {
    let mut bed = cluster(&[1]);
    for node in 2..66 {
        bed.token(node, 0).unwrap();
    }
    assert_eq!(bed.token(66, 0), Err(ClusterRefusal::TooManyTokens { limit: 64 }));
}

#[test]
fn an_administrative_request_is_done_once() {
    let mut bed = Bed::new();
    let pause = |paused| Command::PauseQueue {
        tenant: "default".into(),
        queue: "mail".into(),
        paused,
        note: "".into(),
    };
    let once = |request, command: Command| Command::Once {
        request: RequestId(request),
        fingerprint: command.fingerprint(),
        proposed_after: 0,
        command: Box::new(command),
    };
    let default = bed.core.tenant_id("default").unwrap();
    let paused = |bed: &Bed| bed.core.queues(default).iter().any(|queue| queue.paused);
    assert_eq!(bed.one(once(1, pause(true))), Reply::Done);
    assert_eq!(bed.one(once(2, pause(false))), Reply::Done);
    // The first one comes again, after somebody else resumed the queue.
    assert_eq!(bed.one(once(1, pause(true))), Reply::Done);
    assert!(!paused(&bed), "an acknowledged resume stands");
    let reused = bed.one(once(1, pause(false)));
    assert_eq!(reused, Reply::Refused(Refusal::RequestReused { request: RequestId(1) }));
    // What was refused stays refused.
    let of_nobody = Command::PauseQueue {
        tenant: "nobody".into(),
        queue: "mail".into(),
        paused: true,
        note: "".into(),
    };
    let refused = bed.one(once(3, of_nobody.clone()));
    assert!(matches!(refused, Reply::Refused(Refusal::UnknownTenant(_))));
    bed.set_tenant("nobody", TenantSettings::default());
    assert_eq!(bed.one(once(3, of_nobody)), refused);
    let nested = bed.one(once(4, once(5, pause(true))));
    assert!(
        matches!(nested, Reply::Refused(Refusal::OutOfRange { .. })),
        "{nested:?}"
    );
    let tick = bed.one(once(6, Command::Tick));
    assert!(matches!(tick, Reply::Refused(Refusal::OutOfRange { .. })), "{tick:?}");
}

#[test]
fn a_request_too_old_to_be_known_is_not_done_again() {
    let mut bed = Bed::new();
    let pause = Command::PauseQueue {
        tenant: "default".into(),
        queue: "mail".into(),
        paused: true,
        note: "".into(),
    };
    let once = |request, proposed_after| Command::Once {
        request: RequestId(request),
        fingerprint: pause.fingerprint(),
        proposed_after,
        command: Box::new(pause.clone()),
    };
    assert_eq!(bed.one(once(0, 0)), Reply::Done);
    let many = (1..=4_096).map(|number| once(number, 1)).collect();
    bed.all(many);
    assert_eq!(
        bed.one(once(0, 0)),
        Reply::Refused(Refusal::RequestForgotten { request: RequestId(0) })
    );
    assert_eq!(bed.one(once(9_999, 2)), Reply::Done);
}

#[test]
fn a_new_cluster_has_its_members_and_no_plans_of_the_old_one() {
    let mut bed = cluster(&[1, 2, 3]);
    bed.drain(1, true).unwrap();
    bed.token(4, 0).unwrap();
    bed.join(4, 7).unwrap();
    bed.token(5, 0).unwrap();
    let mut twin = Core::restore(bed.core.rows()).unwrap();
    for core in [&mut bed.core, &mut twin] {
        core.refound(1_000_000, 8, &[member(1, true)]);
        core.check_invariants().unwrap();
    }
    assert_eq!(bed.core.meta(), twin.meta());
    bed.index = 1_000_000;
    assert_eq!(bed.node_state(1), Some((NodeState::Member, true, false)));
    for gone in [2, 3, 4] {
        assert_eq!(bed.node_state(gone), Some((NodeState::Removed, false, false)));
    }
    assert_eq!(bed.under_way(), None);
    assert_eq!(bed.join(5, 8), Err(ClusterRefusal::TokenUnknown { node: 5 }));
    assert_eq!(bed.token(2, 0), Err(ClusterRefusal::NodeIdUsed { node: 2, next: 5 }));
    bed.token(5, 0).unwrap();
    bed.join(5, 8).unwrap();
}
