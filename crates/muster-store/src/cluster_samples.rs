//! Values about nodes with every field set, for tests. The fixtures are their bytes.

use muster_core::*;

fn change() -> ChangeRow {
    ChangeRow {
        id: 55,
        change: MembershipChange::Replace { old: 2, new: 4 },
        begun_at: 1_700_000_000_100,
        aborted: true,
        reason: "no disk".into(),
        was_drained: true,
    }
}

/// One row of each kind.
pub(crate) fn rows() -> Vec<(&'static str, Row)> {
    vec![
        (
            "row-node",
            Row::Node(NodeRow {
                node: 4,
                peer: "127.0.0.1:7104".into(),
                api: "127.0.0.1:7004".into(),
                state: NodeState::Joining,
                voter: true,
                drained: true,
                note: "new disk".into(),
                instance: 0xfeed,
                since: 1_700_000_000_001,
                since_index: 54,
            }),
        ),
        (
            "row-join-token",
            Row::JoinToken(JoinTokenRow {
                node: 5,
                hash: [7; 32],
                created_at: 1_700_000_000_000,
                expires_at: 1_700_000_900_000,
                voter: true,
                replaces: 3,
                peer: "127.0.0.1:7105".into(),
                api: "127.0.0.1:7005".into(),
            }),
        ),
        (
            "row-changes",
            Row::Changes(ChangesRow {
                current: Some(change()),
                last: Some(EndedChange {
                    change: change(),
                    ended_at: 1_700_000_000_200,
                    outcome: ChangeOutcome::Undone {
                        reason: "no disk".into(),
                    },
                }),
            }),
        ),
        (
            "row-request",
            Row::Request(RequestRow {
                index: 57,
                position: 1,
                request: RequestId(0xabcd),
                fingerprint: 0x1234,
                reply: Reply::Tenant(TenantId(3)),
            }),
        ),
    ]
}

/// Every command about nodes, and an administrative request.
pub(crate) fn commands() -> Vec<Command> {
    let changes = [
        MembershipChange::Add { node: 4, voter: true },
        MembershipChange::Replace { old: 2, new: 4 },
        MembershipChange::Promote { node: 4 },
        MembershipChange::Demote { node: 4 },
        MembershipChange::Remove { node: 4 },
        MembershipChange::SetAddress {
            node: 4,
            peer: "127.0.0.1:7114".into(),
            api: "127.0.0.1:7014".into(),
        },
    ];
    let commands = [
        ClusterCommand::CreateJoinToken {
            node: 4,
            hash: [7; 32],
            ttl: 900_000,
            voter: true,
            replaces: 2,
            peer: "127.0.0.1:7104".into(),
            api: "127.0.0.1:7004".into(),
        },
        ClusterCommand::RevokeJoinToken { node: 4 },
        ClusterCommand::Join {
            node: 4,
            hash: [7; 32],
            instance: 0xfeed,
            peer: "127.0.0.1:7104".into(),
            api: "127.0.0.1:7004".into(),
        },
        ClusterCommand::AbortChange {
            change: 55,
            reason: "no disk".into(),
        },
        ClusterCommand::EndChange {
            change: 55,
            outcome: ChangeOutcome::Done,
        },
        ClusterCommand::Drain {
            node: 4,
            drained: true,
            note: "new disk".into(),
        },
    ];
    let once = Command::Once {
        request: RequestId(0xabcd),
        fingerprint: 0x1234,
        proposed_after: 41,
        command: Box::new(Command::Tick),
    };
    let commands = commands.into_iter().chain(changes.map(ClusterCommand::Change));
    std::iter::once(once)
        .chain(commands.map(|command| Command::Cluster(Box::new(command))))
        .collect()
}
