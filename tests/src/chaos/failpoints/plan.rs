//! What is tried: each point, with each action that it can do, on the nodes that pass it.

use std::fmt;

use super::points::Point;

/// What an armed point does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Action {
    /// The process ends at once.
    Die,
    /// An error is returned.
    Fail,
    /// The thread stands still for 100 ms, a few times.
    Pause,
}

impl Action {
    pub(super) const ALL: [Self; 3] = [Self::Die, Self::Fail, Self::Pause];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Die => "die",
            Self::Fail => "fail",
            Self::Pause => "pause",
        }
    }

    /// As a point is armed with it. Errors and pauses end by themselves, so that the cluster goes on.
    pub(super) fn armed(self) -> &'static str {
        match self {
            Self::Die => "return(die)",
            Self::Fail => "5*return(error)",
            Self::Pause => "3*return(pause)",
        }
    }

    /// How often it acts at most, before it is disarmed.
    pub(super) fn times(self) -> u64 {
        match self {
            Self::Die => 1,
            Self::Fail => 5,
            Self::Pause => 3,
        }
    }

    /// Points that are armed at once. A pause ends nothing, so many can be tried together.
    fn together(self) -> usize {
        match self {
            Self::Die | Self::Fail => 1,
            Self::Pause => 10,
        }
    }
}

/// The node on which a point is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Role {
    Leader,
    Follower,
    /// One that joins, and is removed after.
    Newcomer,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Newcomer => "newcomer",
        }
    }
}

/// What brings a node to pass a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Way {
    /// Clients and workers alone.
    Load,
    /// Jobs with large payloads, until the log is purged.
    Purge,
    /// It is started again.
    Start,
    /// It is started again with a damaged log, and refills itself.
    Refill,
    /// Another node does, and gets its snapshot from here.
    Feed,
    /// The lead is handed to it and from it.
    HandOver,
    /// The leader is killed.
    Fall,
    /// Another follower is down for longer than its sessions live.
    Down,
    /// It leads, is cut off, and comes back to another leader.
    CutOff,
    /// Another node joins and is removed.
    Members,
    /// It joins and is removed.
    Join,
    /// It is drained.
    Drain,
    /// Workers lose their connections.
    Workers,
    /// A backup is made.
    Backup,
}

use Role::{Follower, Leader, Newcomer};

const BOTH: &[Role] = &[Leader, Follower];

/// By the beginning of names, the first that fits: what brings a node to pass the point, and which nodes pass it.
const WAYS: &[(&str, Way, &[Role])] = &[
    ("apply.entry.after_answer", Way::Load, &[Leader]),
    ("apply.", Way::Load, BOTH),
    ("archive.", Way::Load, &[Leader]),
    ("backup.object.", Way::Load, &[Leader]),
    ("backup.", Way::Backup, &[Leader]),
    ("file.replace.", Way::Refill, &[Follower]),
    ("hand_over.", Way::HandOver, &[Leader]),
    ("identity.", Way::Join, &[Newcomer]),
    ("join.", Way::Join, &[Newcomer]),
    // All workers may have gone to one node, and drift with every connection that is lost.
    ("lease.", Way::Workers, BOTH),
    ("level.", Way::Refill, &[Follower]),
    ("log.make.", Way::Refill, &[Follower]),
    ("log.open.", Way::Start, &[Follower]),
    ("log.purge.", Way::Purge, BOTH),
    ("log.read.", Way::Down, &[Leader]),
    ("log.truncate.", Way::CutOff, &[Leader]),
    ("log.vote.", Way::HandOver, BOTH),
    ("members.", Way::Members, BOTH),
    ("membership.removed.", Way::Join, &[Newcomer]),
    ("membership.", Way::Members, &[Leader]),
    ("peer.append.before_open", Way::HandOver, &[Follower]),
    ("peer.append.before_answer", Way::Load, &[Follower]),
    ("peer.append.received", Way::Load, &[Follower]),
    ("peer.append.", Way::Load, &[Leader]),
    ("peer.hand_over.", Way::HandOver, &[Leader]),
    ("peer.join.", Way::Members, BOTH),
    ("peer.log_end.", Way::Feed, &[Leader]),
    ("peer.pre_vote.", Way::Fall, &[Follower]),
    ("peer.propose.", Way::Load, &[Leader]),
    ("peer.read_index.", Way::Load, &[Leader]),
    ("peer.snapshot.after_answer", Way::Feed, &[Leader]),
    ("peer.snapshot.before_part", Way::Feed, &[Leader]),
    ("peer.snapshot.before_send", Way::Feed, &[Leader]),
    ("peer.snapshot", Way::Refill, &[Follower]),
    ("peer.transfer_leader.received", Way::HandOver, &[Follower]),
    ("peer.transfer_leader.before_answer", Way::HandOver, &[Follower]),
    ("peer.transfer_leader.", Way::HandOver, &[Leader]),
    ("peer.vote.received", Way::HandOver, BOTH),
    ("peer.vote.before_answer", Way::HandOver, BOTH),
    ("peer.vote.", Way::HandOver, &[Follower]),
    ("peer.vouch.before_send", Way::Workers, &[Follower]),
    ("peer.vouch.", Way::Workers, &[Leader]),
    ("proposal.forward.", Way::Load, &[Follower]),
    ("proposal.", Way::Load, &[Leader]),
    ("purge.", Way::Purge, BOTH),
    ("raft.purge.", Way::Purge, BOTH),
    ("raft.replicate.", Way::Load, &[Leader]),
    ("raft.truncate.", Way::CutOff, &[Leader]),
    ("raft.vote.", Way::HandOver, BOTH),
    ("refill.", Way::Refill, &[Follower]),
    ("report.", Way::Workers, BOTH),
    ("scheduler.lost.", Way::Down, &[Leader]),
    ("scheduler.reign.", Way::HandOver, &[Follower]),
    ("scheduler.", Way::Load, &[Leader]),
    ("session.orphan.", Way::Start, &[Follower]),
    ("session.quiet.", Way::Drain, &[Follower]),
    ("session.reconcile.", Way::Refill, &[Follower]),
    ("session.", Way::Workers, BOTH),
    ("snapshot.build.", Way::Purge, BOTH),
    ("snapshot.current.", Way::Feed, &[Leader]),
    ("snapshot.install.", Way::Refill, &[Follower]),
    ("snapshot.pack.", Way::Feed, &[Leader]),
    ("snapshot.pin.", Way::Purge, BOTH),
    ("snapshot.prepare.", Way::Refill, &[Follower]),
    ("snapshot.unpack.", Way::Refill, &[Follower]),
    ("state.make.", Way::Refill, &[Follower]),
    ("state.open.", Way::Start, &[Follower]),
    ("store.open.", Way::Start, &[Follower]),
    ("", Way::Load, BOTH),
];

/// Points that the campaign does not reach, and why.
pub(super) const OUT_OF_REACH: &[(&str, &str)] = &[(
    "checkpoint.take.between_parts",
    "more than 2,000 jobs would have to change between two checkpoints",
)];

/// Some points, armed with one action on one node at the same time.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub(super) points: Vec<Point>,
    pub(super) action: Action,
    pub(super) role: Role,
    pub(super) way: Way,
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.points.as_slice() {
            [point] => f.write_str(&point.name)?,
            points => write!(f, "{} points", points.len())?,
        }
        write!(f, ", {}, {}", self.action.name(), self.role.name())
    }
}

/// What brings nodes to pass a point, and which.
fn way(point: &Point) -> (Way, &'static [Role]) {
    let fits = |(prefix, ..): &&(&str, Way, &[Role])| point.name.starts_with(prefix);
    let (_, way, roles) = WAYS.iter().find(fits).expect("the last fits all");
    (*way, roles)
}

/// All trials of these points: pauses first, which disturb least.
pub(super) fn trials(points: &[Point]) -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    for action in [Action::Pause, Action::Fail, Action::Die] {
        for point in points.iter().filter(|point| action != Action::Fail || point.fails) {
            let (way, roles) = way(point);
            for role in roles {
                let open = trials.iter_mut().find(|trial| {
                    let same = trial.action == action && trial.role == *role && trial.way == way;
                    same && trial.points.len() < action.together()
                });
                match open {
                    Some(trial) => trial.points.push(point.clone()),
                    None => trials.push(Trial {
                        points: vec![point.clone()],
                        action,
                        role: *role,
                        way,
                    }),
                }
            }
        }
    }
    trials
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::failpoints::points;

    #[test]
    fn each_point_is_tried_with_each_action_it_has() {
        let points = points();
        let trials = trials(&points);
        for point in &points {
            let tried = |action| {
                let with = trials.iter().filter(|trial| trial.action == action);
                with.filter(|trial| trial.points.contains(point)).count()
            };
            let roles = way(point).1.len();
            assert_eq!(tried(Action::Die), roles, "{}", point.name);
            assert_eq!(tried(Action::Pause), roles, "{}", point.name);
            assert_eq!(
                tried(Action::Fail),
                if point.fails { roles } else { 0 },
                "{}",
                point.name
            );
        }
    }

    #[test]
    fn no_rule_is_there_for_nothing() {
        let points = points();
        for (at, (prefix, ..)) in WAYS.iter().enumerate() {
            let first =
                |point: &&Point| WAYS.iter().position(|(prefix, ..)| point.name.starts_with(prefix)) == Some(at);
            assert!(points.iter().any(|point| first(&point)), "{prefix:?} fits no point");
        }
        for (name, _) in OUT_OF_REACH {
            assert!(points.iter().any(|point| point.name == *name), "{name} is no point");
        }
    }
}
