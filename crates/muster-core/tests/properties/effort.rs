//! A history in which nothing happens passes every checker, so what the scripts bring about is counted.

use std::collections::BTreeMap;

use muster_core::ReportReply;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::facts::Fact;
use crate::run::Run;
use crate::script;

/// What a fact counts as.
fn name(fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::Accepted { existed: false, .. } => "accepted".into(),
        Fact::Accepted { existed: true, .. } => "accepted before".into(),
        Fact::NotAccepted { .. } => "refused".into(),
        Fact::Granted { through, .. } if through.len() > 4 => "start with keys".into(),
        Fact::Granted { attempt: 1, .. } => "first attempt".into(),
        Fact::Granted { .. } => "later attempt".into(),
        Fact::Reported {
            how,
            reply: ReportReply::Accepted(_),
            ..
        } => format!("{how:?} taken"),
        Fact::Reported { reply, .. } => format!("{reply:?}"),
        Fact::Revoked { why, .. } => format!("{why:?} revoked"),
        Fact::Ended { state, .. } => format!("{state:?}"),
        Fact::Waits { .. } => "waits".into(),
        Fact::Limited(_) => "rules".into(),
        Fact::Unlimited(_) => "rules gone".into(),
        Fact::Released { .. } => "keys released".into(),
        Fact::Entered {
            state: muster_core::JobState::Blocked,
            ..
        } => "blocked".into(),
        Fact::Applied { replica: 3, .. } => "applied after restore".into(),
        _ => return None,
    })
}

#[test]
fn random_histories_are_not_idle() {
    let mut runner = TestRunner::deterministic();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for round in 0..300 {
        let script = script::script().new_tree(&mut runner).expect("a script").current();
        let history = Run::new()
            .expect("an empty core")
            .history(&script, round % 40)
            .expect("a good history");
        for what in history.iter().filter_map(name) {
            *counts.entry(what).or_default() += 1;
        }
    }
    let wanted = [
        ("accepted", 2_000),
        ("accepted before", 100),
        ("refused", 100),
        ("first attempt", 500),
        ("later attempt", 100),
        ("Succeeded taken", 100),
        ("Failed taken", 50),
        ("FailedForGood taken", 10),
        ("Uncounted taken", 50),
        ("Cancelled taken", 1),
        ("Repeated", 20),
        ("LeaseLost", 20),
        ("TimedOut revoked", 50),
        ("Crashed revoked", 20),
        ("Uncounted revoked", 20),
        ("Succeeded", 100),
        ("Dead", 50),
        ("Cancelled", 50),
        ("Expired", 20),
        ("waits", 50),
        ("rules", 300),
        ("rules gone", 20),
        ("keys released", 5),
        ("blocked", 100),
        ("start with keys", 300),
        ("applied after restore", 1_000),
    ];
    for (what, least) in wanted {
        let count = counts.get(what).copied().unwrap_or_default();
        assert!(
            count >= least,
            "{what:?} happened {count} times, at least {least} are wanted; all: {counts:#?}"
        );
    }
}
