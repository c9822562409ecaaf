//! Bugs that can be switched on to see that the simulator finds them.
//!
//! Without the feature `seeded-bugs` no bug can be switched on, and every question after one is the constant `false`.

use crate::core::Core;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "seeded-bugs"),
    allow(dead_code, reason = "some need a place only where bugs are switched on")
)]
pub enum Defect {
    /// A report is taken under any lease while the job runs.
    AcceptAnyLease,
    /// Idempotency keys are gone after a restore.
    KeysLostInRestore,
    /// Spent rate tokens are back after a restore.
    TokensBackInRestore,
    /// One node adds something of its own to the time of an entry.
    LocalClock,
    /// Time follows the leader's clock also when it goes back.
    ClockRunsBack,
    /// Attempts after a failure are not counted.
    RetryNotCounted,
    /// Rows of scheduled jobs are not written.
    DelayedJobNotWritten,
    /// A grant is announced twice.
    GrantTwice,
    /// A repeated report of an ended job counts as another success.
    EndCountedTwice,
    /// Paused queues go on.
    PauseIgnored,
    /// A limit on running jobs is taken as none.
    ConcurrencyIgnored,
    /// Starts do not spend rate tokens.
    RateNotSpent,
    /// Vanished workers never make a job dead.
    CrashBudgetForgotten,
    /// One failure more than allowed.
    FailureBudgetOffByOne,
    /// The timeout of an ended attempt stays and meets whoever has its number then.
    StaleTimer,
    /// A request to cancel a running job is not marked for writing.
    LostMark,
    /// One node gives jobs to worker classes in another order.
    OrderOfOneNode,
    /// Jobs that ended are not known any more when they are enqueued again.
    EndedForgotten,
    /// Jobs start before their time.
    DelayIgnored,
    /// Half the wait between attempts.
    BackoffHalved,
    /// The cancel of a waiting job is answered and not done.
    CancelNotDone,
    /// A tenant parked by its rate limit is never woken.
    LostWakeup,
    /// One lease of a lost session is not taken back.
    LeaseLeftBehind,
}

#[cfg(feature = "seeded-bugs")]
impl Defect {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::AcceptAnyLease,
        Self::KeysLostInRestore,
        Self::TokensBackInRestore,
        Self::LocalClock,
        Self::ClockRunsBack,
        Self::RetryNotCounted,
        Self::DelayedJobNotWritten,
        Self::GrantTwice,
        Self::EndCountedTwice,
        Self::PauseIgnored,
        Self::ConcurrencyIgnored,
        Self::RateNotSpent,
        Self::CrashBudgetForgotten,
        Self::FailureBudgetOffByOne,
        Self::StaleTimer,
        Self::LostMark,
        Self::OrderOfOneNode,
        Self::EndedForgotten,
        Self::DelayIgnored,
        Self::BackoffHalved,
        Self::CancelNotDone,
        Self::LostWakeup,
        Self::LeaseLeftBehind,
    ];

    /// It shows only when one node has it and others do not.
    pub fn of_one_node(self) -> bool {
        matches!(self, Self::LocalClock | Self::OrderOfOneNode)
    }
}

impl Core {
    /// Whether this bug is switched on.
    #[cfg(feature = "seeded-bugs")]
    pub(crate) fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// Whether this bug is switched on: never.
    #[cfg(not(feature = "seeded-bugs"))]
    #[allow(clippy::unused_self, reason = "the same question as with the feature")]
    pub(crate) const fn has(&self, _defect: Defect) -> bool {
        false
    }

    /// Switches a bug on, in a new core or one just restored.
    #[cfg(feature = "seeded-bugs")]
    pub fn set_defect(&mut self, defect: Defect) {
        self.defect = Some(defect);
        match defect {
            Defect::KeysLostInRestore => self.keys.clear(),
            Defect::TokensBackInRestore => {
                for tenant in &mut self.tenants {
                    tenant.row.rate_state = 0;
                }
            }
            _ => {}
        }
    }
}
