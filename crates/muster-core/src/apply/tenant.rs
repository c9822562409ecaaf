//! Settings of tenants.

use super::out_of_range;
use super::quota::{check_rate, converted};
use crate::command::{AGING_STRICT, TenantSettings};
use crate::core::Core;
use crate::hash::{Effect, text};
use crate::ids::Name;
use crate::reply::{Refusal, Reply};

pub(super) const WEIGHT_MAX: u32 = 10_000;
const PAYLOAD_MAX: u32 = 8 << 20;
const GUARANTEE_MAX: u32 = 1_000_000;
const AGING_MAX: u64 = 31 * 24 * 3_600_000;

impl Core {
    pub(super) fn set_tenant(
        &mut self,
        name: Name,
        settings: TenantSettings,
        create_only: bool,
    ) -> Result<Reply, Refusal> {
        check_settings(&settings)?;
        let number = match self.tenant_of.get(&name).copied() {
            Some(_) if create_only => return Err(Refusal::TenantExists(name)),
            Some(number) => {
                self.change_tenant(number, &settings);
                number
            }
            None => self.add_tenant(name.clone(), settings.clone()),
        };
        let id = self.tenants[number as usize].row.id;
        self.effects
            .note(Effect::TenantSet, id.0 ^ text(&name), settings_digest(&settings));
        Ok(Reply::Tenant(id))
    }

    fn change_tenant(&mut self, number: u32, settings: &TenantSettings) {
        let now = self.meta.now;
        let was_below = self.is_below_guarantee(number);
        let tenant = &mut self.tenants[number as usize];
        // What was used of the old rate counts for the new one.
        let old = &tenant.row.settings.quota;
        tenant.row.enqueue_arrival = converted(old, &settings.quota, tenant.row.enqueue_arrival, now);
        let reordered = tenant.row.settings.aging != settings.aging;
        tenant.row.settings = settings.clone();
        self.guarantee_changed(number, was_below);
        self.mark_tenant(number);
        if reordered {
            let queues: Vec<u32> = self.tenants[number as usize].queues.values().copied().collect();
            for queue in queues {
                for i in 0..self.queues[queue].lanes.len() {
                    self.refresh_lane(self.queues[queue].lanes[i]);
                }
            }
        }
    }
}

fn settings_digest(settings: &TenantSettings) -> u64 {
    text(&format!("{settings:?}"))
}

fn check_settings(settings: &TenantSettings) -> Result<(), Refusal> {
    if !(1..=WEIGHT_MAX).contains(&settings.weight) {
        return Err(out_of_range("weight", settings.weight, "1 to 10000"));
    }
    if settings.aging > AGING_MAX && settings.aging != AGING_STRICT {
        return Err(out_of_range("aging", settings.aging, "0 ms to 31 days, or strict"));
    }
    if settings.payload_bytes_max == 0 || settings.payload_bytes_max > PAYLOAD_MAX {
        return Err(out_of_range(
            "payload_bytes_max",
            settings.payload_bytes_max,
            "1 to 8388608",
        ));
    }
    if settings.guaranteed_slots > GUARANTEE_MAX {
        return Err(out_of_range(
            "guaranteed_slots",
            settings.guaranteed_slots,
            "0 to 1000000",
        ));
    }
    match &settings.quota.enqueue_rate {
        Some(rate) => check_rate("quota.enqueue_rate", rate),
        None => Ok(()),
    }
}
