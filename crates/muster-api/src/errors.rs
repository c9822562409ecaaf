//! What can go wrong with a call, and the one place where it becomes a gRPC status.

use std::time::Duration;

use muster_core::{ClusterRefusal, JobId, JobState, LimitSelector, Name, NodeId, Refusal};
use muster_proto::v1;
use muster_raft::{ProposeError, ReadError, Waits};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::convert;
use crate::reason::{DOMAIN, Reason};

/// How long a caller should wait before it repeats what an election or a full queue prevented.
const RETRY_SOON: Duration = Duration::from_millis(100);
/// The same of what waits for jobs to end.
const RETRY_LATER: Duration = Duration::from_secs(1);

/// Why a call, or one job of it, was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A field is malformed.
    #[error(transparent)]
    Invalid(#[from] Violation),
    /// No tenant of that name.
    #[error("tenant {0:?} does not exist")]
    TenantNotFound(Name),
    /// No such job in this tenant.
    #[error("job {0} does not exist in this tenant")]
    JobNotFound(JobId),
    /// No rule with this level and these patterns.
    #[error("there is no limit of {} {:?} of tenants {:?}", .0.level.as_str(), .0.names, .0.tenants)]
    LimitNotFound(LimitSelector),
    /// Nothing waits for a dead job there.
    #[error("no dead job holds up ordering key {key:?} of queue {queue:?}")]
    OrderNotHeld {
        /// The queue.
        queue: Name,
        /// The ordering key.
        key: Name,
    },
    /// Only dead jobs are redriven.
    #[error("job {job} is {}; only a dead job can be redriven", convert::state_name(*state))]
    JobNotDead {
        /// The job.
        job: JobId,
        /// Its state.
        state: JobState,
    },
    /// A rule of the core said no.
    #[error(transparent)]
    Refused(Refusal),
    /// The node is drained: it takes no worker sessions.
    #[error("this node is drained and takes no worker sessions; use another one")]
    Drained,
    /// Too few voters would be left that answer: the change could not be completed, or the cluster not go on after it.
    #[error(
        "without node {node} the cluster has {voters} voters, of which {answering} answer, and needs {needed}: bring back or \
         remove those that do not answer first ({silent:?})"
    )]
    QuorumAtRisk {
        /// The node that was to lose its vote.
        node: NodeId,
        /// Voters without it.
        voters: usize,
        /// Those of them that answer.
        answering: usize,
        /// A majority of them.
        needed: usize,
        /// Those that do not answer.
        silent: Vec<NodeId>,
    },
    /// The lead cannot be handed to that node.
    #[error("node {node} cannot take the lead: {why}")]
    CannotLead {
        /// The node.
        node: NodeId,
        /// What speaks against it.
        why: &'static str,
    },
    /// The lead was offered and not taken.
    #[error("node {node} did not take the lead in time; {now}")]
    LeadNotTaken {
        /// The node.
        node: NodeId,
        /// Who leads.
        now: String,
    },
    /// As much under way as is admitted.
    #[error("this node has {value} {what} under way and admits {limit}")]
    Overloaded {
        /// Of what.
        what: &'static str,
        /// How much is under way.
        value: usize,
        /// The bound.
        limit: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// Too much waits for its turn, here or on the leader.
    #[error("not done: {value} {what} wait for their turn already, and at most {limit} may")]
    TooMuchWaits {
        /// What is counted.
        what: Waits,
        /// How much of it waits.
        value: u64,
        /// How much of it may wait.
        limit: u64,
        /// When to try again.
        retry_after: Duration,
    },
    /// A member does not understand a feature level.
    #[error("feature level {level} cannot come into force: {against}", level = if *level == 0 { "0 (the highest)".to_owned() } else { level.to_string() })]
    LevelUnsupported {
        /// Asked for.
        level: u32,
        /// Who stands against it, and why.
        against: String,
    },
    /// The disks of a majority are full.
    #[error("not done: the disks of a majority of the nodes are full; reads go on, and writes will when there is room")]
    DiskFull {
        /// When to try again.
        retry_after: Duration,
    },
    /// Memory for live jobs is scarce, and the tenant holds too much of it.
    #[error(
        "not done: {free} of the {limit} bytes that memory_limit leaves for live jobs are free, so a tenant may hold {allowed}; tenant \
         {tenant:?} holds {held} and asks for {wanted} more"
    )]
    MemoryShare {
        /// The tenant.
        tenant: Name,
        /// Bytes that its live jobs take, about.
        held: u64,
        /// Bytes that the job would take.
        wanted: u64,
        /// Bytes that the tenant may hold as long as so little is free.
        allowed: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes that all live jobs may take.
        limit: u64,
    },
    /// Live jobs take all the memory that they may.
    #[error(
        "not done: live jobs take {used} of the {limit} bytes that memory_limit leaves for them; new ones are taken when some have ended"
    )]
    MemoryFull {
        /// Bytes that they take, about.
        used: u64,
        /// Bytes that they may take.
        limit: u64,
        /// When to try again.
        retry_after: Duration,
    },
    /// Commands wait too long for their turn on the leader.
    #[error(
        "not done: commands wait {waited:?} for their turn on the leader, longer than lag_max of {lag_max:?}: it takes no new jobs"
    )]
    LeaderLate {
        /// How long the first one waits.
        waited: Duration,
        /// How long they may wait.
        lag_max: Duration,
        /// When to try again.
        retry_after: Duration,
    },
    /// Certainly without effect.
    #[error("not done: {0}")]
    NotDone(String),
    /// This node lags too far for a read: another one may answer at once, so nothing says when to come back.
    #[error("not done: {0}; ask another node")]
    Behind(ReadError),
    /// The node is stopping.
    #[error("this node is stopping; use another one")]
    Stopping,
    /// May have had its effect.
    #[error("the outcome is unknown: {0}; repeat it with the same id")]
    Unknown(String),
    /// A read, or a call that had not begun, ran out of time.
    #[error("the deadline of the call passed: {0}")]
    DeadlinePassed(&'static str),
    /// Stored data could not be read.
    #[error("reading stored jobs failed: {0}")]
    Storage(String),
    /// A backup was not made.
    #[error(transparent)]
    Backup(muster_backup::Error),
    /// A defect.
    #[error("internal error: {0}")]
    Internal(String),
}

/// A malformed field: which, what it is, and what it may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, allowed is {allowed}")]
pub struct Violation {
    /// Path in the request, as in the proto, e.g. `jobs[3].kind`.
    pub field: String,
    /// The value, shortened.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
    /// For programs.
    pub reason: Reason,
}

impl Violation {
    /// `value` as people should see it.
    pub(crate) fn new(
        reason: Reason,
        field: impl Into<String>,
        value: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            value: value.into(),
            allowed: allowed.into(),
            reason,
        }
    }

    /// The same, with the field below `path`.
    #[must_use]
    pub(crate) fn within(mut self, path: &str) -> Self {
        self.field = format!("{path}.{}", self.field);
        self
    }
}

impl Error {
    /// The same, with the field that it names below `path`.
    #[must_use]
    pub(crate) fn within(self, path: &str) -> Self {
        match self {
            Self::Invalid(violation) => Self::Invalid(violation.within(path)),
            Self::Refused(Refusal::OutOfRange { field, value, allowed }) => Self::Refused(Refusal::OutOfRange {
                field: format!("{path}.{field}").into(),
                value,
                allowed,
            }),
            other => other,
        }
    }

    /// The reason for programs; it decides the status.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Invalid(violation) => violation.reason,
            Self::TenantNotFound(_) | Self::Refused(Refusal::UnknownTenant(_)) => Reason::TenantNotFound,
            Self::JobNotFound(_) | Self::Refused(Refusal::UnknownJob(_)) => Reason::JobNotFound,
            Self::LimitNotFound(_) => Reason::LimitNotFound,
            Self::OrderNotHeld { .. } => Reason::OrderNotHeld,
            Self::JobNotDead { .. } => Reason::JobNotDead,
            Self::Refused(Refusal::TenantExists(_)) => Reason::TenantExists,
            Self::Refused(Refusal::Conflict { .. }) => Reason::JobConflict,
            Self::Refused(Refusal::OtherItemRefused { .. }) => Reason::OtherItemRefused,
            Self::Refused(Refusal::SessionClosed) => Reason::SessionClosed,
            Self::Refused(Refusal::OutOfRange { .. }) => Reason::OutOfRange,
            Self::Refused(Refusal::RequestReused { .. }) => Reason::RequestReused,
            Self::Refused(Refusal::Cluster(refusal)) => cluster_reason(refusal),
            Self::Drained => Reason::NodeDrained,
            Self::QuorumAtRisk { .. } => Reason::QuorumAtRisk,
            Self::CannotLead { .. } => Reason::CannotLead,
            Self::LeadNotTaken { .. } => Reason::LeadNotTaken,
            // Repeated so often that the caller is told to come back.
            Self::Refused(Refusal::SearchHistoryAgain { .. }) | Self::NotDone(_) | Self::Behind(_) => Reason::NotDone,
            Self::Overloaded { .. } | Self::TooMuchWaits { .. } | Self::LeaderLate { .. } => Reason::Overloaded,
            Self::DiskFull { .. } => Reason::DiskFull,
            Self::MemoryShare { .. } | Self::MemoryFull { .. } => Reason::MemoryFull,
            Self::LevelUnsupported { .. } => Reason::LevelUnsupported,
            Self::Refused(Refusal::LevelFalls { .. }) => Reason::LevelFalls,
            Self::Refused(Refusal::QuotaExceeded { .. }) => Reason::QuotaExceeded,
            Self::Stopping => Reason::Stopping,
            Self::Refused(Refusal::RequestForgotten { .. }) | Self::Unknown(_) => Reason::OutcomeUnknown,
            Self::DeadlinePassed(_) => Reason::DeadlinePassed,
            Self::Storage(_) => Reason::StorageFailed,
            Self::Backup(muster_backup::Error::NotConfigured) => Reason::BackupsNotConfigured,
            Self::Backup(muster_backup::Error::Busy { .. }) => Reason::BackupBusy,
            Self::Backup(_) => Reason::BackupFailed,
            Self::Refused(_) | Self::Internal(_) => Reason::Internal,
        }
    }

    /// When a repeat may help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. }
            | Self::TooMuchWaits { retry_after, .. }
            | Self::DiskFull { retry_after }
            | Self::MemoryFull { retry_after, .. }
            | Self::LeaderLate { retry_after, .. } => Some(*retry_after),
            Self::MemoryShare { .. } => Some(RETRY_LATER),
            // What can never fit is not to be repeated.
            Self::Refused(Refusal::QuotaExceeded { excess, .. }) => {
                (excess.retry_after > 0).then(|| Duration::from_millis(excess.retry_after))
            }
            Self::NotDone(_)
            | Self::Stopping
            | Self::Drained
            | Self::LeadNotTaken { .. }
            | Self::Unknown(_)
            | Self::Refused(Refusal::SearchHistoryAgain { .. }) => Some(RETRY_SOON),
            _ => None,
        }
    }

    /// As one item's result in a call of many jobs.
    pub(crate) fn item(&self) -> v1::ItemError {
        let reason = self.reason();
        v1::ItemError {
            code: reason.code() as i32,
            reason: reason.as_str().to_owned(),
            message: self.to_string(),
            field: match self {
                Self::Invalid(violation) => violation.field.clone(),
                Self::Refused(Refusal::OutOfRange { field, .. }) => field.to_string(),
                Self::Refused(Refusal::QuotaExceeded { excess, .. }) => format!("quota.{}", excess.bound.as_str()),
                _ => String::new(),
            },
            retry_after: self.retry_after().map(convert::duration),
        }
    }
}

fn cluster_reason(refusal: &ClusterRefusal) -> Reason {
    match refusal {
        ClusterRefusal::NodeIdUsed { .. } => Reason::NodeIdUsed,
        ClusterRefusal::UnknownNode { .. } => Reason::NodeNotFound,
        ClusterRefusal::NodeRemoved { .. } => Reason::NodeRemoved,
        ClusterRefusal::TokenUnknown { .. }
        | ClusterRefusal::TokenExpired { .. }
        | ClusterRefusal::TokenUsed { .. }
        | ClusterRefusal::AddressUnexpected { .. } => Reason::TokenInvalid,
        ClusterRefusal::TooManyTokens { .. } => Reason::TooManyTokens,
        ClusterRefusal::AddressTaken { .. } => Reason::AddressTaken,
        ClusterRefusal::ChangeUnderWay { .. } => Reason::ChangeUnderWay,
        ClusterRefusal::NoSuchChange { .. } => Reason::NoSuchChange,
        ClusterRefusal::LastVoter { .. } | ClusterRefusal::LastUndrained { .. } => Reason::LastVoter,
        ClusterRefusal::NotVoter { .. } | ClusterRefusal::AlreadyVoter { .. } => Reason::WrongRole,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let reason = error.reason();
        let mut details = ErrorDetails::with_error_info(reason.as_str(), DOMAIN, error.facts());
        match &error {
            Error::Invalid(violation) => {
                details.add_bad_request_violation(
                    violation.field.clone(),
                    format!("is {}, allowed is {}", violation.value, violation.allowed),
                );
            }
            Error::Refused(Refusal::OutOfRange { field, value, allowed }) => {
                details.add_bad_request_violation(field.to_string(), format!("is {value}, allowed is {allowed}"));
            }
            _ => {}
        }
        if let Some(after) = error.retry_after() {
            details.set_retry_info(Some(after));
        }
        let code = reason.code();
        if matches!(code, Code::Internal | Code::DataLoss) {
            tracing::error!(reason = reason.as_str(), error = %error, "a call failed inside the server");
        }
        metrics::counter!("muster_api_errors_total", "reason" => reason.as_str()).increment(1);
        Self::with_error_details(code, error.to_string(), details)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownTenant(name) => Self::TenantNotFound(name),
            Refusal::UnknownJob(job) => Self::JobNotFound(job),
            other => Self::Refused(other),
        }
    }
}

impl From<ProposeError> for Error {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotDone { reason } => Self::NotDone(reason),
            ProposeError::Unknown { reason } => Self::Unknown(reason),
            ProposeError::Overloaded {
                what,
                value,
                limit,
                retry_after,
            } => Self::TooMuchWaits {
                what,
                value,
                limit,
                retry_after,
            },
            ProposeError::DiskFull { retry_after } => Self::DiskFull { retry_after },
            ProposeError::MemoryFull {
                used,
                limit,
                retry_after,
            } => Self::MemoryFull {
                used,
                limit,
                retry_after,
            },
            ProposeError::Late {
                waited,
                lag_max,
                retry_after,
            } => Self::LeaderLate {
                waited,
                lag_max,
                retry_after,
            },
            // Commands already handed over may still take effect.
            ProposeError::Stopped => Self::Unknown("the node is shutting down".to_owned()),
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Stopped => Self::Stopping,
            ReadError::Behind { .. } => Self::Behind(error),
            ReadError::Unconfirmed { .. } => Self::NotDone(error.to_string()),
        }
    }
}

impl From<muster_store::Error> for Error {
    fn from(error: muster_store::Error) -> Self {
        match error {
            muster_store::Error::Closed => Self::Stopping,
            other => Self::Storage(other.to_string()),
        }
    }
}

impl From<muster_backup::Error> for Error {
    fn from(error: muster_backup::Error) -> Self {
        Self::Backup(error)
    }
}

impl From<muster_node::Error> for Error {
    fn from(error: muster_node::Error) -> Self {
        match error {
            muster_node::Error::Stopping => Self::Stopping,
            muster_node::Error::Drained => Self::Drained,
            muster_node::Error::TooManySessions { limit } => Self::Overloaded {
                what: "worker sessions",
                value: limit,
                limit,
                retry_after: Duration::from_secs(1),
            },
            muster_node::Error::Refused(refusal) => refusal.into(),
            // A session that may have been opened, and that nobody serves, is closed by its time to live.
            muster_node::Error::Propose(ProposeError::Unknown { reason }) => Self::NotDone(reason),
            muster_node::Error::Propose(error) => error.into(),
            other => Self::Internal(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: Error, code: Code, reason: &str, retry: bool) {
        let status = Status::from(error);
        let details = status.get_error_details();
        let info = details.error_info().expect("every status has an ErrorInfo");
        assert_eq!(
            (status.code(), info.reason.as_str(), info.domain.as_str()),
            (code, reason, DOMAIN)
        );
        assert_eq!(details.retry_info().is_some(), retry, "{reason}");
    }

    #[test]
    fn errors_become_the_statuses_of_the_table() {
        let job = JobId(7);
        check(
            Error::TenantNotFound("x".into()),
            Code::NotFound,
            "TENANT_NOT_FOUND",
            false,
        );
        check(
            Refusal::UnknownTenant("x".into()).into(),
            Code::NotFound,
            "TENANT_NOT_FOUND",
            false,
        );
        check(Refusal::UnknownJob(job).into(), Code::NotFound, "JOB_NOT_FOUND", false);
        check(
            Refusal::TenantExists("x".into()).into(),
            Code::AlreadyExists,
            "TENANT_EXISTS",
            false,
        );
        let conflict = Refusal::Conflict {
            first: job,
            what: "id".into(),
        };
        check(conflict.into(), Code::AlreadyExists, "JOB_CONFLICT", false);
        check(
            Refusal::OtherItemRefused { item: 3 }.into(),
            Code::FailedPrecondition,
            "OTHER_ITEM_REFUSED",
            false,
        );
        check(
            Refusal::SessionClosed.into(),
            Code::FailedPrecondition,
            "SESSION_CLOSED",
            false,
        );
        let again = Refusal::SearchHistoryAgain { searched: 1, needed: 2 };
        check(again.into(), Code::Unavailable, "NOT_DONE", true);
        check(
            ProposeError::DiskFull {
                retry_after: RETRY_SOON,
            }
            .into(),
            Code::ResourceExhausted,
            "DISK_FULL",
            true,
        );
        let memory_full = ProposeError::MemoryFull {
            used: 1,
            limit: 1,
            retry_after: RETRY_LATER,
        };
        check(memory_full.into(), Code::ResourceExhausted, "MEMORY_FULL", true);
        let late = ProposeError::Late {
            waited: RETRY_LATER,
            lag_max: RETRY_LATER,
            retry_after: RETRY_SOON,
        };
        check(late.into(), Code::ResourceExhausted, "OVERLOADED", true);
        check(
            ProposeError::Overloaded {
                what: Waits::Bytes,
                value: 1,
                limit: 1,
                retry_after: RETRY_SOON,
            }
            .into(),
            Code::ResourceExhausted,
            "OVERLOADED",
            true,
        );
        check(
            ProposeError::NotDone {
                reason: "no leader".into(),
            }
            .into(),
            Code::Unavailable,
            "NOT_DONE",
            true,
        );
        let unknown = ProposeError::Unknown { reason: "x".into() };
        check(unknown.into(), Code::DeadlineExceeded, "OUTCOME_UNKNOWN", true);
        check(muster_store::Error::Closed.into(), Code::Unavailable, "STOPPING", true);
        let under_way = ClusterRefusal::ChangeUnderWay {
            id: 5,
            change: "add node 4".into(),
        };
        let under_way = Refusal::Cluster(under_way).into();
        check(under_way, Code::FailedPrecondition, "CHANGE_UNDER_WAY", false);
        check(Error::Drained, Code::Unavailable, "NODE_DRAINED", true);
        let job_not_dead = Error::JobNotDead {
            job,
            state: JobState::Running,
        };
        check(job_not_dead, Code::FailedPrecondition, "JOB_NOT_DEAD", false);
    }

    #[test]
    fn a_malformed_field_is_named_in_a_bad_request() {
        let violation = Violation::new(Reason::TooLong, "note", "2000 bytes long", "at most 1024 bytes");
        let status = Status::from(Error::from(violation.within("jobs[3]")));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let fields = &details.bad_request().expect("has a bad request").field_violations;
        assert_eq!(fields.len(), 1);
        assert_eq!(fields[0].field, "jobs[3].note");
        assert_eq!(
            fields[0].description,
            "is 2000 bytes long, allowed is at most 1024 bytes"
        );
    }
}
