//! Rows of the tables.

use crate::history::*;

/// Line of a record in its file.
pub type Line = u64;
/// Number of a job within a history.
pub type JobNo = u32;
/// Number of a name within a history.
pub type NameNo = u32;

/// When something was recorded, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Recording clock.
    pub at: Micros,
    /// Line.
    pub line: Line,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Done.
    Ok,
    /// Certainly without effect.
    Fail,
    /// Nobody knows.
    Unknown,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Client.
    pub process: u32,
    /// What.
    pub kind: OperationKind,
    /// When it was made.
    pub invoked: Stamp,
    /// When it came back.
    pub completed: Option<Stamp>,
    /// How.
    pub end: End,
    /// Log index of its effect or of what it saw.
    pub index: Option<u64>,
    /// First row of its kind of table, and how many.
    pub(crate) rows: (u32, u32),
}

/// A job asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The call.
    pub call: u32,
    /// The id asked for.
    pub job: JobNo,
    /// Owner.
    pub tenant: NameNo,
    /// Queue and kind; those of the dead job for one that revives it.
    pub queue: NameNo,
    /// Handler.
    pub kind: NameNo,
    /// Tokens that a start takes of the rates of cluster, tenant, queue and kind.
    pub cost: u32,
    /// First of its limit keys among all, and how many.
    pub(crate) limit_keys: (u32, u32),
    /// Ordering key.
    pub ordering: Option<NameNo>,
    /// Idempotency key.
    pub key: Option<NameNo>,
    /// Not to start before, in milliseconds since the epoch; 0 = at once.
    pub due: u64,
    /// Least wait after a failed attempt.
    pub wait_min: u64,
    /// Longest run of an attempt in milliseconds; 0 = no limit, or not recorded.
    pub attempt_timeout: u64,
    /// Expires when not started so many milliseconds after it could; 0 = never.
    pub expires_in: u64,
    /// The dead job that it revives.
    pub redrives: Option<JobNo>,
    /// One of many that are to be accepted together or not at all.
    pub whole: bool,
    /// How it ended for this job.
    pub end: End,
    /// The answer, when it went well: job, whether it had existed, its state.
    pub answer: Option<(JobNo, bool, Option<JobState>)>,
}

/// A job looked at.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    /// The call: a `Get`, `Wait`, `List` or one whose reply tells a state.
    pub call: u32,
    /// The job.
    pub job: JobNo,
    /// State, attempts, version; `None` = not there.
    pub seen: Option<(JobState, u32, u64)>,
}

/// A cancel.
#[derive(Clone, Copy, Debug)]
pub struct Cancel {
    /// The call.
    pub call: u32,
    /// The job.
    pub job: JobNo,
    /// State after it, when it went well.
    pub state: Option<JobState>,
}

/// A queue or a kind stopped or resumed.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// The call.
    pub call: u32,
    /// It is a kind.
    pub of_kind: bool,
    /// Owner and name.
    pub what: (NameNo, NameNo),
    /// Stopped.
    pub paused: bool,
}

/// A watch.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// The call.
    pub call: u32,
    /// Client and number of the call.
    pub stream: (u32, u32),
    /// Of one job only.
    pub job: Option<JobNo>,
    /// Changes after this log index.
    pub after: u64,
    /// Only the latest of changes that follow each other fast is promised.
    pub latest: bool,
}

/// A change of the rule book.
#[derive(Clone, Debug)]
pub struct RuleChange {
    /// The call.
    pub call: u32,
    /// What the rule is for.
    pub selector: LimitSelector,
    /// The rule; `None` = deleted.
    pub rule: Option<LimitRule>,
}

/// An attempt as its worker saw it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The job.
    pub job: JobNo,
    /// Fencing token.
    pub fence: u64,
    /// The worker that began it first.
    pub worker: NameNo,
    /// Attempt number.
    pub number: u32,
    /// First beginning.
    pub started: Option<Stamp>,
    /// A second beginning under the same fence.
    pub started_again: Option<Stamp>,
    /// First sending of its report, and what it said.
    pub ended: Option<(Stamp, How)>,
    /// First answer that took it.
    pub accepted: Option<Stamp>,
    /// First answer that did not.
    pub lost: Option<Stamp>,
}

impl Attempt {
    /// Its report was taken, and said this.
    pub fn accepted_as(&self, what: impl Fn(How) -> bool) -> bool {
        self.accepted.is_some() && self.ended.is_some_and(|(_, how)| what(how))
    }
}

/// A use of the fenced resource.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// When.
    pub stamp: Stamp,
    /// The job.
    pub job: JobNo,
    /// Fencing token.
    pub fence: u64,
    /// The resource took it.
    pub accepted: bool,
}

/// A delivery of a watch.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// When.
    pub stamp: Stamp,
    /// The watch.
    pub stream: (u32, u32),
    /// The change; `None` = progress.
    pub change: Option<(JobNo, JobState)>,
    /// Log index.
    pub index: u64,
}

/// A log entry and its effects.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it was recorded.
    pub line: Line,
    /// When the first node had applied it, microseconds of the history.
    pub at: u64,
    /// Replicated time after it.
    pub now: u64,
    /// In order.
    pub effects: Vec<Effect>,
}

/// A job in the last scan.
#[derive(Clone, Copy, Debug)]
pub struct LastJob {
    /// Where.
    pub line: Line,
    /// The job.
    pub job: JobNo,
    /// Owner.
    pub tenant: NameNo,
    /// Queue.
    pub queue: NameNo,
    /// Idempotency key.
    pub key: Option<NameNo>,
    /// State.
    pub state: JobState,
    /// Attempts, failures, crashes.
    pub counts: [u32; 3],
    /// Failures and crashes allowed.
    pub budgets: [u32; 2],
    /// The dead job it revives.
    pub redriven_from: Option<JobNo>,
}

/// The last scan.
#[derive(Default)]
pub struct Last {
    /// Jobs.
    pub jobs: Vec<LastJob>,
    /// Tenants.
    pub tenants: Vec<(Line, FinalTenant)>,
    /// Queues.
    pub queues: Vec<(Line, FinalQueue)>,
    /// Nodes.
    pub nodes: Vec<(Line, FinalNode)>,
    /// It is over: when, and whether it saw every job.
    pub scanned: Option<(Stamp, bool)>,
}

impl Last {
    /// It saw every job.
    pub fn complete(&self) -> bool {
        self.scanned.is_some_and(|(_, complete)| complete)
    }
}
