//! Proposals that are repeated until they are answered. All commands are idempotent, so a repeat is harmless.

use std::time::{Duration, Instant};

use muster_core::{Command, Reply};
use muster_raft::ProposeError;

use crate::context::Context;

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How an insistent proposal ended.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Reply),
    /// Raft has stopped, or the time was up.
    None,
}

/// Proposes `command` again and again until there is an answer, Raft stops, or it is `until`.
pub(crate) async fn insist(context: &Context, command: Command, until: Option<Instant>) -> Answer {
    let mut pause = PAUSE_MIN;
    loop {
        let mut deadline = Instant::now() + context.options.propose_timeout;
        if let Some(until) = until {
            if Instant::now() >= until {
                return Answer::None;
            }
            deadline = deadline.min(until);
        }
        let wait = match context.consensus.propose(command.clone(), deadline).await {
            Ok(reply) => return Answer::Reply(reply),
            Err(ProposeError::Stopped) => return Answer::None,
            Err(
                ProposeError::Overloaded { retry_after, .. }
                | ProposeError::DiskFull { retry_after }
                | ProposeError::MemoryFull { retry_after, .. }
                | ProposeError::Late { retry_after, .. },
            ) => retry_after.clamp(pause, PAUSE_MAX),
            Err(_) => pause,
        };
        // Sessions of one node fail together when the leader goes; they should not come back together.
        let jitter = rand::random_range(0.5..1.0);
        tokio::time::sleep(wait.mul_f64(jitter)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
