//! The limits of the public interface, as the comments of `proto/muster/v1` state them.

use std::time::Duration;

use muster_core::Millis;

/// Characters of a name.
pub const NAME_LENGTH_MAX: usize = 128;
/// Bytes of a media type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 128;
/// Bytes of an idempotency key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
/// How long an idempotency key is remembered after its job was accepted.
pub const IDEMPOTENCY_WINDOW_MS: Millis = 24 * 3_600_000;
/// Jobs of one change of priority.
pub const PRIORITIES_MAX: usize = 1_000;
/// Groups of jobs that no worker accepts, in one answer.
pub const UNROUTABLE_GROUPS_MAX: usize = 1_000;
/// The same, counted before the largest are chosen.
pub const UNROUTABLE_GROUPS_COUNTED: usize = 10_000;
/// Failures allowed.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// Vanished workers allowed.
pub const CRASHES_MAX: u32 = 100;
/// Longest backoff, attempt, snooze or rate period: 31 days.
pub const SPAN_MAX: Millis = 31 * 24 * 3_600_000;
/// Longest delay or time to expiry: 10,000 years, as far as a protobuf duration reaches.
pub const FAR_MAX: Millis = 315_576_000_000_000;
/// Labels of a worker, or that a job requires.
pub const LABELS_MAX: usize = 16;
/// Bytes of a label's key or value.
pub const LABEL_BYTES_MAX: usize = 128;
/// Metadata pairs of a job.
pub const METADATA_PAIRS_MAX: usize = 16;
/// Bytes of a job's metadata, keys and values together.
pub const METADATA_BYTES_MAX: usize = 1_024;
/// Bytes of a limit key.
pub const LIMIT_KEY_BYTES_MAX: usize = 128;
/// Bytes of an ordering key.
pub const ORDERING_KEY_BYTES_MAX: usize = 256;
/// Jobs of each sort that the explanation of a limit names.
pub const EXPLAINED_JOBS_MAX: usize = 100;
/// Jobs that hold a limit, as the explanation of a job names them.
pub const EXPLAINED_HOLDERS_MAX: usize = 20;
/// The largest payload that a tenant may allow.
pub const PAYLOAD_BYTES_MAX: u32 = 8 << 20;
/// Jobs of one call or frame.
pub const JOBS_MAX: usize = 10_000;
/// Bytes of the jobs of one call or frame.
pub const JOBS_BYTES_MAX: usize = 16 << 20;
/// Jobs of one page.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// Jobs of one page when not said.
pub const PAGE_SIZE_DEFAULT: u32 = 100;
/// Bytes of a worker's name.
pub const WORKER_NAME_BYTES_MAX: usize = 128;
/// Kinds of one worker.
pub const WORKER_KINDS_MAX: usize = 1_000;
/// Tenants or queues that one worker names.
pub const WORKER_NAMES_MAX: usize = 1_000;
/// Reports of one frame.
pub const REPORTS_MAX: usize = 10_000;
/// Credits of one frame.
pub const CREDITS_MAX: u32 = 10_000;
/// Shortest silence that loses a session.
pub const SESSION_TTL_MIN: Millis = 1_000;
/// Longest silence that loses a session.
pub const SESSION_TTL_MAX: Millis = 600_000;
/// Silence that loses a session when not said.
pub const SESSION_TTL_DEFAULT: Millis = 10_000;
/// Bytes of a result.
pub const RESULT_BYTES_MAX: usize = 64 << 10;
/// Bytes of an error's class; longer ones are cut.
pub const ERROR_CLASS_BYTES_MAX: usize = 128;
/// Bytes of an error's message; longer ones are cut.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Bytes of a note.
pub const NOTE_BYTES_MAX: usize = 1_024;
/// Weight of a tenant.
pub const WEIGHT_MAX: u32 = 10_000;
/// Slots that a tenant is guaranteed.
pub const GUARANTEED_SLOTS_MAX: u32 = 1_000_000;
/// Tokens per period, or at once.
pub const RATE_COUNT_MAX: u32 = 1_000_000_000;
/// Period of a rate limit when not said.
pub const RATE_PERIOD_DEFAULT: Millis = 1_000;
/// Frames of one enqueue stream under way.
pub const STREAM_FRAMES_MAX: usize = 64;
/// Bytes of one message, with room above [`JOBS_BYTES_MAX`] for names and framing.
pub const MESSAGE_BYTES_MAX: usize = 20 << 20;
/// Longest wait of `WaitJob`.
pub const WAIT_MAX: Duration = Duration::from_mins(10);

/// Life of a join token.
pub(crate) const TOKEN_TTL_MIN: Millis = 60_000;
pub(crate) const TOKEN_TTL_MAX: Millis = 24 * 3_600_000;
pub(crate) const TOKEN_TTL_DEFAULT: Millis = 15 * 60_000;
