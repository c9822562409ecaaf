//! One line per situation.

use super::*;

fn address(node: NodeId) -> Address {
    Address {
        peer: format!("peer-{node}"),
        api: format!("api-{node}"),
    }
}

fn ids(nodes: &[NodeId]) -> BTreeSet<NodeId> {
    nodes.iter().copied().collect()
}

/// A leader that is node 1 of three voters, all of which answer and have everything.
fn view() -> View {
    View {
        me: 1,
        voters: vec![ids(&[1, 2, 3])],
        nodes: [1, 2, 3].map(|node| (node, address(node))).into(),
        committed: true,
        last_log: 1_000,
        matched: [1, 2, 3].map(|node| (node, 1_000)).into(),
        answering: ids(&[2, 3]),
        ..View::default()
    }
}

fn with(change: MembershipChange) -> View {
    let change = ChangeRow {
        id: 900,
        change,
        begun_at: 0,
        aborted: false,
        reason: "".into(),
        was_drained: false,
    };
    View {
        change: Some(change),
        joining: Some(address(4)),
        ..view()
    }
}

/// Node 4 is a learner that answers and lacks so many entries.
fn learner(view: &mut View, lag: LogIndex) {
    view.nodes.insert(4, address(4));
    view.matched.insert(4, 1_000 - lag);
    view.answering.insert(4);
}

fn abort(view: &mut View) {
    if let Some(change) = &mut view.change {
        change.aborted = true;
    }
}

fn waits_for(view: &View, what: &str) {
    match next(view) {
        Step::Wait(text) => assert!(text.contains(what), "{text}"),
        other => panic!("{other:?}"),
    }
}

fn vote(nodes: &[NodeId]) -> Step {
    change(ChangeMembers::AddVoterIds(ids(nodes)), true)
}

fn gone() -> Step {
    Step::End(ChangeOutcome::Undone {
        reason: "given up".into(),
    })
}

const ADD: MembershipChange = MembershipChange::Add { node: 4, voter: true };
const REPLACE: MembershipChange = MembershipChange::Replace { old: 3, new: 4 };
const DONE: Step = Step::End(ChangeOutcome::Done);

#[test]
fn nothing_to_do_is_nothing_done() {
    assert_eq!(next(&view()), Step::Idle);
    let mut uncommitted = view();
    uncommitted.committed = false;
    waits_for(&uncommitted, "majority");
}

#[test]
fn a_new_node_comes_in_step_by_step() {
    let mut view = with(ADD);
    let enters = ChangeMembers::AddNodes([(4, address(4))].into());
    assert_eq!(next(&view), change(enters, true));
    learner(&mut view, 0);
    view.answering.remove(&4);
    waits_for(&view, "node 4 to answer");
    learner(&mut view, 500);
    waits_for(&view, "500 entries");
    learner(&mut view, 100);
    assert_eq!(next(&view), vote(&[4]));
    view.voters = vec![ids(&[1, 2, 3]), ids(&[1, 2, 3, 4])];
    assert_eq!(next(&view), vote(&[]), "half-way: on");
    view.voters = vec![ids(&[1, 2, 3, 4])];
    assert_eq!(next(&view), DONE);
}

#[test]
fn a_learner_is_done_when_it_has_caught_up() {
    let mut view = with(MembershipChange::Add { node: 4, voter: false });
    learner(&mut view, 500);
    waits_for(&view, "catch up");
    learner(&mut view, 0);
    assert_eq!(next(&view), DONE);
}

#[test]
fn a_new_node_can_be_given_up_until_it_votes() {
    let mut view = with(ADD);
    abort(&mut view);
    assert_eq!(next(&view), gone());
    learner(&mut view, 500);
    assert_eq!(next(&view), change(ChangeMembers::RemoveNodes(ids(&[4])), false));
    view.voters = vec![ids(&[1, 2, 3]), ids(&[1, 2, 3, 4])];
    assert_eq!(next(&view), vote(&[]), "too late");
    view.voters = vec![ids(&[1, 2, 3, 4])];
    assert_eq!(next(&view), DONE);
    let mut silent = with(ADD);
    learner(&mut silent, 500);
    silent.answering.remove(&4);
    silent.silence = SILENCE_MAX;
    assert!(matches!(next(&silent), Step::Abort(_)));
}

#[test]
fn a_member_leaves_after_its_sessions() {
    let mut view = with(MembershipChange::Remove { node: 3 });
    view.sessions = 2;
    waits_for(&view, "2 worker sessions");
    let leaves = change(ChangeMembers::RemoveVoters(ids(&[3])), false);
    let mut late = view.clone();
    late.since = SESSIONS_WAIT;
    assert_eq!(next(&late), leaves, "not for ever");
    let mut dead = view.clone();
    dead.answering.remove(&3);
    assert_eq!(next(&dead), leaves, "a dead one hands over nothing");
    view.sessions = 0;
    assert_eq!(next(&view), leaves);
    view.voters = vec![ids(&[1, 2, 3]), ids(&[1, 2])];
    let completed = change(ChangeMembers::AddVoterIds(BTreeSet::new()), false);
    assert_eq!(next(&view), completed, "it must not stay as a learner");
    view.voters = vec![ids(&[1, 2])];
    view.nodes.remove(&3);
    assert_eq!(next(&view), DONE);
    let mut aborted = with(MembershipChange::Remove { node: 3 });
    abort(&mut aborted);
    assert_eq!(next(&aborted), gone());
}

#[test]
fn a_learner_leaves_at_once() {
    let mut view = with(MembershipChange::Remove { node: 4 });
    learner(&mut view, 500);
    assert_eq!(next(&view), change(ChangeMembers::RemoveNodes(ids(&[4])), false));
}

#[test]
fn a_leader_that_leaves_hands_over_first() {
    let mut view = with(MembershipChange::Remove { node: 1 });
    view.matched.insert(2, 990);
    assert_eq!(next(&view), Step::HandOver(3), "to the one that has most");
    view.drained = ids(&[1, 3]);
    assert_eq!(next(&view), Step::HandOver(2), "rather to one that is not drained");
    view.answering.clear();
    waits_for(&view, "another voter");
    let mut demoted = with(MembershipChange::Demote { node: 1 });
    assert_eq!(next(&demoted), Step::HandOver(3));
    demoted.me = 2;
    assert_eq!(next(&demoted), change(ChangeMembers::RemoveVoters(ids(&[1])), true));
}

#[test]
fn a_replacement_is_one_change() {
    let mut view = with(REPLACE);
    assert!(matches!(next(&view), Step::Change { .. }));
    learner(&mut view, 500);
    waits_for(&view, "catch up");
    learner(&mut view, 0);
    assert_eq!(next(&view), Step::Drain(3), "now the old one lets go");
    view.drained = ids(&[3]);
    view.sessions = 1;
    waits_for(&view, "1 worker sessions");
    view.sessions = 0;
    let swap = vec![
        ChangeMembers::AddVoterIds(ids(&[4])),
        ChangeMembers::RemoveVoters(ids(&[3])),
    ];
    assert_eq!(next(&view), change(ChangeMembers::Batch(swap), false));
    view.voters = vec![ids(&[1, 2, 3]), ids(&[1, 2, 4])];
    assert_eq!(next(&view), change(ChangeMembers::AddVoterIds(BTreeSet::new()), false));
    view.voters = vec![ids(&[1, 2, 4])];
    assert_eq!(next(&view), change(ChangeMembers::RemoveNodes(ids(&[3])), false));
    view.nodes.remove(&3);
    assert_eq!(next(&view), DONE);
}

#[test]
fn a_replaced_leader_hands_over_and_a_dead_one_need_not() {
    let mut view = with(MembershipChange::Replace { old: 1, new: 4 });
    learner(&mut view, 0);
    view.drained = ids(&[1]);
    assert_eq!(next(&view), Step::HandOver(3), "a learner cannot lead yet");
    let mut dead = with(REPLACE);
    learner(&mut dead, 0);
    dead.answering.remove(&3);
    dead.sessions = 5;
    dead.drained = ids(&[3]);
    assert!(matches!(next(&dead), Step::Change { .. }));
    let mut alone = with(MembershipChange::Replace { old: 2, new: 4 });
    alone.voters = vec![ids(&[1, 2])];
    learner(&mut alone, 0);
    assert_eq!(next(&alone), Step::Drain(2), "this leader is not drained");
    alone.drained = ids(&[1]);
    assert!(matches!(next(&alone), Step::Change { .. }), "nobody else would be left");
}

#[test]
fn roles_and_addresses_change_in_place() {
    let mut view = with(MembershipChange::Promote { node: 4 });
    assert!(
        matches!(next(&view), Step::End(ChangeOutcome::Undone { .. })),
        "it left"
    );
    learner(&mut view, 500);
    waits_for(&view, "catch up");
    learner(&mut view, 0);
    assert_eq!(next(&view), vote(&[4]));
    view.voters = vec![ids(&[1, 2, 3, 4])];
    assert_eq!(next(&view), DONE);
    let moved = |node| MembershipChange::SetAddress {
        node,
        peer: "peer-9".into(),
        api: "api-9".into(),
    };
    let mut view = with(moved(3));
    let to = ChangeMembers::SetNodes([(3, address(9))].into());
    assert_eq!(next(&view), change(to, true));
    view.nodes.insert(3, address(9));
    assert_eq!(next(&view), DONE);
    assert!(matches!(next(&with(moved(9))), Step::End(ChangeOutcome::Undone { .. })));
}

#[test]
fn a_drained_leader_leaves_the_lead_to_another() {
    let mut view = view();
    view.drained = ids(&[1]);
    assert!(matches!(next(&view), Step::HandOver(_)));
    view.drained = ids(&[1, 3]);
    assert_eq!(next(&view), Step::HandOver(2));
    view.matched.insert(2, 1);
    waits_for(&view, "not drained");
}
