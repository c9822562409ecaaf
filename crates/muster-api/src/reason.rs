//! The reasons that errors carry for programs: `ErrorInfo.reason` under the domain `muster`.

use tonic::Code;

/// Domain of every `ErrorInfo`.
pub const DOMAIN: &str = "muster";

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $text:literal $code:ident;)*) => {
        /// Why a call failed, for programs. Stable: a reason is added, never renamed. `docs/errors.md` explains each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// All reasons, in the order of `docs/errors.md`.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As it stands in `ErrorInfo.reason`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The gRPC status that goes with it.
            pub fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)* }
            }
        }
    };
}

reasons! {
    /// A required field is empty.
    FieldRequired "FIELD_REQUIRED" InvalidArgument;
    /// A number or a length of time is out of its range.
    OutOfRange "OUT_OF_RANGE" InvalidArgument;
    /// Two fields exclude each other.
    FieldsExclusive "FIELDS_EXCLUSIVE" InvalidArgument;
    /// A name has characters or a length that names may not have.
    NameInvalid "NAME_INVALID" InvalidArgument;
    /// A name that only the cluster itself may use.
    NameReserved "NAME_RESERVED" InvalidArgument;
    /// Not an address.
    AddressInvalid "ADDRESS_INVALID" InvalidArgument;
    /// Not a UUID.
    IdInvalid "ID_INVALID" InvalidArgument;
    /// A number that stands for nothing in this enum.
    EnumInvalid "ENUM_INVALID" InvalidArgument;
    /// A text or bytes field is over its length.
    TooLong "TOO_LONG" InvalidArgument;
    /// A list is over its length.
    TooMany "TOO_MANY" InvalidArgument;
    /// The same thing twice in a list that takes it once.
    Duplicate "DUPLICATE" InvalidArgument;
    /// The payload is over the tenant's limit.
    PayloadTooLarge "PAYLOAD_TOO_LARGE" InvalidArgument;
    /// The jobs of one call are over 16 MiB together.
    RequestTooLarge "REQUEST_TOO_LARGE" InvalidArgument;
    /// Not a page token of this very query.
    PageTokenInvalid "PAGE_TOKEN_INVALID" InvalidArgument;
    /// A frame of a stream came out of turn, or is empty.
    FrameInvalid "FRAME_INVALID" InvalidArgument;
    /// No tenant of that name.
    TenantNotFound "TENANT_NOT_FOUND" NotFound;
    /// No such job in this tenant.
    JobNotFound "JOB_NOT_FOUND" NotFound;
    /// No rule with this level and these patterns.
    LimitNotFound "LIMIT_NOT_FOUND" NotFound;
    /// The jobs of this ordering key wait for no dead one.
    OrderNotHeld "ORDER_NOT_HELD" NotFound;
    /// A tenant of that name exists.
    TenantExists "TENANT_EXISTS" AlreadyExists;
    /// The id or idempotency key belongs to another job.
    JobConflict "JOB_CONFLICT" AlreadyExists;
    /// The job is not dead.
    JobNotDead "JOB_NOT_DEAD" FailedPrecondition;
    /// Another item of an all-or-nothing call was refused.
    OtherItemRefused "OTHER_ITEM_REFUSED" FailedPrecondition;
    /// The worker session is closed.
    SessionClosed "SESSION_CLOSED" FailedPrecondition;
    /// No member has this id.
    NodeNotFound "NODE_NOT_FOUND" NotFound;
    /// The id belongs or belonged to a node.
    NodeIdUsed "NODE_ID_USED" AlreadyExists;
    /// Another member has this address.
    AddressTaken "ADDRESS_TAKEN" AlreadyExists;
    /// The request id stands for another command.
    RequestReused "REQUEST_REUSED" AlreadyExists;
    /// The node left the cluster.
    NodeRemoved "NODE_REMOVED" FailedPrecondition;
    /// Another change of the membership is under way.
    ChangeUnderWay "CHANGE_UNDER_WAY" FailedPrecondition;
    /// That change is not under way.
    NoSuchChange "NO_SUCH_CHANGE" FailedPrecondition;
    /// No voter, or none that may lead, would be left.
    LastVoter "LAST_VOTER" FailedPrecondition;
    /// Too few voters would be left that answer.
    QuorumAtRisk "QUORUM_AT_RISK" FailedPrecondition;
    /// A voter where a learner is needed, or the reverse.
    WrongRole "WRONG_ROLE" FailedPrecondition;
    /// The node cannot take the lead.
    CannotLead "CANNOT_LEAD" FailedPrecondition;
    /// The join token is not good.
    TokenInvalid "TOKEN_INVALID" FailedPrecondition;
    /// As many join tokens are outstanding as are kept.
    TooManyTokens "TOO_MANY_TOKENS" ResourceExhausted;
    /// A member's program does not understand the feature level.
    LevelUnsupported "LEVEL_UNSUPPORTED" FailedPrecondition;
    /// A feature level never falls.
    LevelFalls "LEVEL_FALLS" FailedPrecondition;
    /// The tenant would have more than its quota allows.
    QuotaExceeded "QUOTA_EXCEEDED" ResourceExhausted;
    /// The node or the leader has as much to do as it admits.
    Overloaded "OVERLOADED" ResourceExhausted;
    /// The disks of a majority of the nodes are full.
    DiskFull "DISK_FULL" ResourceExhausted;
    /// Live jobs take all the memory that they may, or the tenant holds too much of it.
    MemoryFull "MEMORY_FULL" ResourceExhausted;
    /// Not done: no leader, or it could not take the call.
    NotDone "NOT_DONE" Unavailable;
    /// The lead was offered and not taken in time.
    LeadNotTaken "LEAD_NOT_TAKEN" Unavailable;
    /// The node is drained; another one takes worker sessions.
    NodeDrained "NODE_DRAINED" Unavailable;
    /// The node is stopping; another one serves.
    Stopping "STOPPING" Unavailable;
    /// It may have been done or not.
    OutcomeUnknown "OUTCOME_UNKNOWN" DeadlineExceeded;
    /// The call's deadline passed and nothing was done.
    DeadlinePassed "DEADLINE_PASSED" DeadlineExceeded;
    /// Stored data could not be read.
    StorageFailed "STORAGE_FAILED" DataLoss;
    /// The cluster has no place for backups.
    BackupsNotConfigured "BACKUPS_NOT_CONFIGURED" FailedPrecondition;
    /// A backup is being made, or old ones are being removed.
    BackupBusy "BACKUP_BUSY" FailedPrecondition;
    /// The backup could not be made.
    BackupFailed "BACKUP_FAILED" Aborted;
    /// A defect of the server.
    Internal "INTERNAL" Internal;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_explained_with_its_status() {
        let page = include_str!("../../../docs/errors.md");
        for reason in Reason::ALL {
            let status = format!("{:?}", reason.code());
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", reason.as_str())));
            let row = row.unwrap_or_else(|| panic!("docs/errors.md lacks {}", reason.as_str()));
            let documented: String = row
                .split('`')
                .nth(3)
                .unwrap_or_default()
                .replace('_', "")
                .to_lowercase();
            assert_eq!(
                documented,
                status.to_lowercase(),
                "status of {} in docs/errors.md",
                reason.as_str()
            );
        }
    }
}
