//! I36: no session holds attempts of more slots than it has made room for, and none gets one after it asked for no more or
//! was over. From inside, at every grant.

use std::collections::HashMap;

use crate::check::Findings;
use crate::facts::{Facts, Fast};
use crate::history::{Effect, Id};

#[derive(Default)]
struct Session {
    granted: u64,
    total: u64,
    quiet: bool,
}

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    if !findings.needs_server(facts) {
        return;
    }
    let mut sessions: HashMap<Id, Session, Fast> = HashMap::default();
    // Jobs that take more than one.
    let mut wide: HashMap<Id, u32, Fast> = HashMap::default();
    for (index, entry) in &facts.entries {
        for effect in &entry.effects {
            match effect {
                Effect::Accepted(accepted) if accepted.slots > 1 => {
                    wide.insert(accepted.job, accepted.slots);
                }
                Effect::SessionOpened { session, .. } => {
                    sessions.entry(*session).or_default();
                }
                Effect::Credits { session, total } => {
                    if let Some(session) = sessions.get_mut(session) {
                        session.total = session.total.max(*total);
                    }
                }
                Effect::SessionQuiet { session } => {
                    if let Some(session) = sessions.get_mut(session) {
                        session.quiet = true;
                    }
                }
                Effect::SessionClosed { session } => {
                    sessions.remove(session);
                }
                // Older nodes do not tell the session.
                Effect::Granted { job, session, .. } if *session != Id::default() => {
                    findings.judge(1);
                    let Some(known) = sessions.get_mut(session) else {
                        findings.refuse([entry.line], || {
                            format!("job {job} is granted at index {index} to session {session}, which is not open")
                        });
                        continue;
                    };
                    known.granted += u64::from(wide.get(job).copied().unwrap_or(1));
                    if known.quiet {
                        findings.refuse([entry.line], || {
                            format!("job {job} is granted at index {index} to session {session}, which wants no more")
                        });
                    }
                    if known.granted > known.total {
                        let (granted, total) = (known.granted, known.total);
                        findings.refuse([entry.line], || {
                            format!("with job {job} at index {index} session {session} got {granted} slots, and made room for {total}")
                        });
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::by_hand::*;

    #[test]
    fn refuses() {
        prove(
            super::check,
            &[
                // The good history has room for four.
                &|history| {
                    let grants = vec![granted(id(9), 20 << 24, 1), granted(id(10), 20 << 24 | 1, 1)];
                    history.push(applied(20, grants));
                },
                &|history| {
                    // One job that takes both.
                    let Effect::Accepted(mut wide) = accepted(id(9), 0) else {
                        return;
                    };
                    wide.slots = 3;
                    history.push(applied(20, vec![Effect::Accepted(wide), granted(id(9), 20 << 24, 1)]));
                },
                &|history| {
                    let session = SESSION;
                    history.push(applied(
                        20,
                        vec![Effect::SessionQuiet { session }, granted(id(9), 20 << 24, 1)],
                    ));
                },
                &|history| {
                    let session = SESSION;
                    history.push(applied(
                        20,
                        vec![Effect::SessionClosed { session }, granted(id(9), 20 << 24, 1)],
                    ));
                },
                &|history| {
                    // A number that was not raised.
                    let (session, total) = (SESSION, 4);
                    let grants = vec![
                        Effect::Credits { session, total },
                        granted(id(9), 20 << 24, 1),
                        granted(id(10), 20 << 24 | 1, 1),
                    ];
                    history.push(applied(20, grants));
                },
            ],
        );
    }
}
