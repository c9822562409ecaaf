//! The feature level rises, and what it means for the hash.

use crate::command::Command;
use crate::core::Core;
use crate::hash::Effect;
use crate::level::{ANSWERS_IN_HASH, LEVEL_MAX, LEVEL_MIN};
use crate::reply::{Refusal, Reply, ReportReply};

impl Command {
    /// The level that this command brings into force, if it does.
    pub fn sets_level(&self) -> Option<u32> {
        match self {
            Self::SetLevel { level } => Some(*level),
            _ => None,
        }
    }
}

impl Core {
    /// The feature level in force.
    pub fn level(&self) -> u32 {
        self.meta.level.max(LEVEL_MIN)
    }

    pub(super) fn set_level(&mut self, level: u32) -> Result<Reply, Refusal> {
        let current = self.level();
        if level < current {
            return Err(Refusal::LevelFalls { current, asked: level });
        }
        if level > LEVEL_MAX {
            // The shell ends a program that does not understand a level before it gets here.
            return Err(super::out_of_range(
                "level",
                level,
                &format!("{LEVEL_MIN} to {LEVEL_MAX}"),
            ));
        }
        self.meta.level = level;
        self.effects.note(Effect::LevelSet, u64::from(level), 0);
        Ok(Reply::Done)
    }

    /// Adds the answers of an entry to its effects.
    pub(super) fn note_answers(&mut self, replies: &[Reply]) {
        if self.level() < ANSWERS_IN_HASH {
            return;
        }
        let mut digest = 0_u64;
        for reply in replies {
            digest = digest.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ code(reply);
        }
        self.effects.note(Effect::Answered, replies.len() as u64, digest);
    }
}

/// What a reply says, as a number. Not all of it: enough to tell one outcome from another.
fn code(reply: &Reply) -> u64 {
    match reply {
        Reply::Done => 1,
        Reply::Refused(_) => 2,
        Reply::Enqueued(enqueued) => 3 + u64::from(enqueued.existed),
        Reply::Reported(reports) => {
            let lost = reports.iter().filter(|report| **report == ReportReply::LeaseLost);
            5 + ((reports.len() as u64) << 32) + ((lost.count() as u64) << 8)
        }
        _ => 6,
    }
}
