//! Bugs that can be switched on to see that the simulator finds them.
//!
//! Without the feature `seeded-bugs` no bug can be switched on, and every question after one is the constant `false`.

use crate::core::Core;
#[cfg(feature = "seeded-bugs")]
use crate::core::ENDED;

/// Bugs with what each does, which is said once: in the documentation and in the table of what was found.
macro_rules! defects {
    ($(#[doc = $what:literal] $name:ident,)+) => {
        /// A bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(
            not(feature = "seeded-bugs"),
            allow(dead_code, reason = "some need a place only where bugs are switched on")
        )]
        pub enum Defect {
            $(#[doc = $what] $name,)+
        }

        #[cfg(feature = "seeded-bugs")]
        impl Defect {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What it does.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what.trim_ascii(),)+
                }
            }
        }
    };
}

defects! {
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
    /// Quotas refuse nothing.
    QuotaIgnored,
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
    /// A gate that was shut by its rate never opens.
    LostWakeup,
    /// One lease of a lost session is not taken back.
    LeaseLeftBehind,
    /// The attempt of a job that was handed back still counts.
    HandBackCounted,
    /// The wait between attempts does not grow.
    BackoffDoesNotGrow,
    /// A worker's own wait before the next attempt is not heeded.
    RetryAfterIgnored,
    /// A vanished worker counts as a failure.
    CrashTakenAsFailure,
    /// Idempotency keys are kept and not looked up.
    KeyNotLooked,
    /// Idempotency keys of all tenants are one.
    KeyAcrossTenants,
    /// Cancelled jobs do not count as ended.
    TotalNotCounted,
    /// The end of a job that expired is not announced, so that no row of it reaches history.
    EndNotTold,
    /// The repeat of a report that was taken is answered as a lost lease.
    RepeatCalledLost,
    /// That a queue is paused is not written.
    PauseNotWritten,
    /// Jobs that ended lately are not known any more after a restore.
    EndedLostInRestore,
    /// Attempts under way have no timeout any more after a restore.
    DeadlineLostInRestore,
    /// The shares that tenants have used are forgotten in a restore.
    SharesLostInRestore,
    /// A rate limit admits starts a tenth of a second ahead of their time.
    RateAheadOfTime,
    /// One job more than allowed runs at once.
    ConcurrencyOffByOne,
    /// A call that is to be accepted whole or not at all is accepted in part.
    AllOrNothingIgnored,
    /// Timers fire a little early.
    TimersEarly,
    /// Two leases of one entry share a fence.
    FenceRepeated,
    /// A revived job begins with an attempt that it never had.
    RedriveKeepsAttempts,
    /// A queue goes on counting the jobs that left it retrying.
    QueueMiscounted,
    /// The start of an attempt does not raise the job's version.
    VersionNotRaised,
    /// A report under a lost lease frees the places of its job at its limit keys once more.
    LateReportFrees,
    /// A start takes one token whatever it costs.
    CostIgnored,
    /// Of several limit keys the first one alone is asked.
    FirstKeyOnly,
    /// A job starts before an earlier one of its ordering key has ended.
    OrderOvertaken,
    /// A dead job of a strict ordering key lets the next one go.
    HoldForgotten,
    /// Less specific rules win.
    WidestRuleWins,
    /// A throttled key goes on.
    ThrottleIgnored,
    /// Administrative requests are done again when they come again.
    RequestForgotten,
    /// Paused kinds go on.
    KindPauseIgnored,
    /// That a kind is paused is not written.
    KindPauseNotWritten,
    /// A change of priority is told and not made.
    PriorityNotChanged,
    /// What a priority level is worth is the same for every tenant.
    AgingFixed,
    /// A job waits for a worker with its preferred labels.
    PreferenceRequired,
    /// A preferred label takes a job to workers that do not accept it.
    PreferenceAnyWorker,
    /// Workers get jobs of tenants that they do not serve.
    WorkerTenantIgnored,
    /// A job whose time to start is over neither starts nor expires.
    ExpiryIgnored,
    /// A job expires in half its time.
    ExpiryHalved,
    /// Only the first attempt of a job has a timeout.
    TimeoutOnceOnly,
    /// Room that a worker tells of is added to what it told before.
    CreditsAdded,
    /// A worker that wants no more gets more.
    QuietIgnored,
    /// A job takes one slot of a session's credit whatever it says.
    SlotsNotCounted,
    /// A tenant is charged one slot for jobs that take more.
    SlotsNotCharged,
    /// Queues share their tenant's time as if all had the same weight.
    QueueWeightIgnored,
    /// No session gathers free slots for a job that takes more than any has.
    NothingGathers,
    /// Slots that a tenant is guaranteed change nothing.
    GuaranteeIgnored,
    /// What a tenant runs below its guarantee is not charged to its share.
    GuaranteeOnTop,
    /// Starts below a guarantee move the fleet's time, so that others lose what they are behind.
    GuaranteeMovesFleet,
    /// A tenant that was given more than its share for long by its guarantee pays all of it back.
    GuaranteeDebtUnbounded,
}

#[cfg(feature = "seeded-bugs")]
impl Defect {
    /// It shows only when one node has it and others do not.
    pub fn of_one_node(self) -> bool {
        matches!(self, Self::LocalClock | Self::OrderOfOneNode)
    }

    /// It shows in slots or shares of worker time, of which a history does not tell.
    pub fn is_of_shares(self) -> bool {
        matches!(
            self,
            Self::SlotsNotCounted
                | Self::SlotsNotCharged
                | Self::NothingGathers
                | Self::QueueWeightIgnored
                | Self::GuaranteeIgnored
                | Self::GuaranteeOnTop
                | Self::GuaranteeMovesFleet
                | Self::GuaranteeDebtUnbounded
        )
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
                for gate in self.gates.iter_mut() {
                    gate.arrival = 0;
                }
            }
            Defect::EndedLostInRestore => {
                self.ended = Default::default();
                self.ids.retain(|_, number| *number & ENDED == 0);
            }
            Defect::DeadlineLostInRestore => {
                let running = self.jobs.iter().filter(|(_, job)| job.run.is_some());
                for timer in running.filter_map(|(number, job)| job.timer(number)) {
                    self.timers.remove(&timer);
                }
            }
            Defect::SharesLostInRestore => {
                let waiting = self.classes.iter().any(|(_, class)| class.has_runnable(u64::MAX));
                let tenants = self.tenants.iter_mut().filter(|_| !waiting);
                for share in tenants.flat_map(|tenant| &mut tenant.shares) {
                    share.row.tag = 0;
                }
            }
            _ => {}
        }
    }
}
