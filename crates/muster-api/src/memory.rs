//! Who may still bring jobs in when the memory for live jobs runs out.
//!
//! A tenant may hold at most [`SHARE`] times what is still free (dynamic thresholds, as in the buffers of switches). So one greedy
//! tenant gets four fifths of the memory and no more, ten of them get 98 % together, and who holds little is let in until
//! next to nothing is left: the greediest are refused first, without a list of them.

use muster_core::{Core, Name, TenantId};
use muster_raft::MemoryUse;

use crate::errors::Error;

/// How often what is still free a tenant may hold.
const SHARE: u64 = 4;

/// Memory as one tenant finds it.
pub(crate) struct Share {
    limit: u64,
    used: u64,
    held: u64,
}

impl Share {
    /// `None` if nobody can be refused.
    pub(crate) fn of(core: &Core, tenant: TenantId, memory: MemoryUse) -> Option<Self> {
        let share = Self {
            limit: memory.limit,
            used: core.memory(),
            held: 0,
        };
        // Nobody holds more than all of it.
        if memory.limit == 0 || share.used.saturating_mul(2) <= memory.limit {
            return None;
        }
        Some(Self {
            held: core.memory_of(tenant),
            ..share
        })
    }

    /// What stands against a job that takes so many bytes.
    pub(crate) fn against(&self, tenant: &Name, bytes: u64) -> Option<Error> {
        let free = self.limit.saturating_sub(self.used);
        let allowed = free.saturating_mul(SHARE);
        if bytes <= free && self.held.saturating_add(bytes) <= allowed {
            return None;
        }
        Some(Error::MemoryShare {
            tenant: tenant.clone(),
            held: self.held,
            wanted: bytes,
            allowed: allowed.min(self.limit),
            free,
            limit: self.limit,
        })
    }

    /// Counts a job that is let in.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.used += bytes;
        self.held += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 100_000;
    const JOB: u64 = 10;

    /// Tenants that each bring in as much as they may, in turn; what each holds in the end.
    fn fill(tenants: usize) -> Vec<u64> {
        let mut held = vec![0; tenants];
        loop {
            let mut any = false;
            for at in 0..tenants {
                let share = Share {
                    limit: LIMIT,
                    used: held.iter().sum(),
                    held: held[at],
                };
                if share.against(&"t".into(), JOB).is_none() {
                    held[at] += JOB;
                    any = true;
                }
            }
            if !any {
                return held;
            }
        }
    }

    #[test]
    fn greedy_tenants_share_and_leave_something() {
        assert_eq!(fill(1), [80_000]);
        let ten = fill(10);
        let (least, most) = (ten.iter().min().copied(), ten.iter().max().copied());
        assert!(least >= most.map(|most| most - 2 * JOB), "{ten:?}");
        let all: u64 = ten.iter().sum();
        assert!((95_000..LIMIT).contains(&all), "{all}");
    }

    #[test]
    fn who_holds_little_is_let_in_beside_the_greedy() {
        let greedy: u64 = fill(10).iter().sum();
        let quiet = |used, held| Share {
            limit: LIMIT,
            used,
            held,
        };
        assert!(quiet(greedy, 50).against(&"quiet".into(), JOB).is_none());
        let refusal = quiet(LIMIT, 0).against(&"quiet".into(), JOB).expect("nothing is left");
        for part in ["0 of the 100000 bytes", "memory_limit", "\"quiet\"", "10 more"] {
            assert!(refusal.to_string().contains(part), "{refusal}");
        }
    }

    #[test]
    fn jobs_of_one_call_count_together() {
        let mut share = Share {
            limit: LIMIT,
            used: 79_995,
            held: 79_995,
        };
        let fits = |share: &Share| share.against(&"t".into(), JOB).is_none();
        assert!(fits(&share));
        share.add(JOB);
        assert!(!fits(&share));
    }
}
