//! Ids and seeds: the randomness that the core must not have.

use muster_core::{JobId, Timestamp};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Mints for the jobs of one call. Ids of one mint ascend.
pub(crate) struct Mint {
    random: SmallRng,
    last: u128,
}

impl Mint {
    pub(crate) fn new() -> Self {
        // Seeded from the thread's cryptographic generator: two nodes never share a sequence.
        Self {
            random: SmallRng::from_rng(&mut rand::rng()),
            last: 0,
        }
    }

    /// A UUID of version 7 that is above all before it.
    pub(crate) fn job_id(&mut self, now: Timestamp) -> JobId {
        let mut bytes = [0; 10];
        self.random.fill(&mut bytes);
        let mut id = uuid::Builder::from_unix_timestamp_millis(now, &bytes)
            .into_uuid()
            .as_u128();
        if id <= self.last {
            // Same millisecond: count up in the 62 random bits at the end, below the version and variant.
            id = self.last + 1 + u128::from(bytes[9]);
        }
        self.last = id;
        JobId(id)
    }

    /// A seed of jitter.
    pub(crate) fn seed(&mut self) -> u64 {
        self.random.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_and_are_of_version_7() {
        let mut mint = Mint::new();
        let ids: Vec<_> = (0..1_000)
            .map(|step| mint.job_id(1_700_000_000_000 + step / 100))
            .collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ids.iter().all(|id| uuid::Uuid::from_u128(id.0).get_version_num() == 7));
    }
}
