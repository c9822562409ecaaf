//! Hashes: of descriptions (to tell a retry from another job), of effects (to prove that replicas agree), of lookup keys.

use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::ids::JobId;
use crate::job::{JobSpec, JobState};

/// Hash of kind, schema version and payload.
pub(crate) fn fingerprint(spec: &JobSpec) -> u64 {
    let head = xxh3_64_with_seed(spec.kind.as_bytes(), u64::from(spec.schema_version));
    let form = xxh3_64_with_seed(
        spec.payload.content_type.as_bytes(),
        head ^ (spec.payload.encoding as u64),
    );
    xxh3_64_with_seed(&spec.payload.data, form)
}

/// Effects of the entry being applied, as words; folded into the rolling hash at its end.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    words: Vec<u8>,
}

/// Kinds of effect that are not job states.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Effect {
    Bootstrap = 0x100,
    CancelAsked,
    SessionOpened,
    SessionClosed,
    Quiet,
    Credits,
    Vouched,
    TenantSet,
    QueueSet,
    Shut,
    Throttled,
    Forgotten,
    LimitSet,
    LimitDeleted,
    KeyOpened,
    OrderReleased,
    NodeChanged,
    TokenMade,
    TokenGone,
    ChangeSet,
    Requested,
    LevelSet,
    Answered,
    KindSet,
    PrioritySet,
    QueueWeighed,
}

impl Effects {
    pub(crate) fn note(&mut self, effect: Effect, a: u64, b: u64) {
        self.push(&[effect as u64, a, b]);
    }

    /// A job entered a state.
    pub(crate) fn job(&mut self, id: JobId, state: JobState, attempts: u32, detail: u64) {
        self.push(&[
            (state as u64) | u64::from(attempts) << 16,
            (id.0 >> 64) as u64,
            id.0 as u64,
            detail,
        ]);
    }

    fn push(&mut self, words: &[u64]) {
        for word in words {
            self.words.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// The hash after this entry; leaves the buffer empty, its room kept unless it was an unusually large entry.
    pub(crate) fn fold(&mut self, before: u64) -> u64 {
        let after = xxh3_64_with_seed(&self.words, before);
        self.words.clear();
        self.words.shrink_to(1 << 20);
        after
    }
}

/// Hash of some text as an effect's detail.
pub(crate) fn text(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}

/// A fixed hasher for lookup tables whose order is never looked at: the same on every node and cheap for small keys.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fold(u64);

pub(crate) type FixedState = BuildHasherDefault<Fold>;

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Fold {
    fn add(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ MULTIPLIER) * u128::from(0xff51_afd7_ed55_8ccd_u64);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        self.add(xxh3_64(bytes));
    }
    fn write_u8(&mut self, value: u8) {
        self.add(u64::from(value));
    }
    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }
    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }
    fn write_u128(&mut self, value: u128) {
        self.add((value >> 64) as u64);
        self.add(value as u64);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}
