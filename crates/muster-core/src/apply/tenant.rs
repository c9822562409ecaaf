//! Settings of tenants and queues.

use super::out_of_range;
use crate::command::TenantSettings;
use crate::core::Core;
use crate::defect::Defect;
use crate::gate;
use crate::hash::{Effect, text};
use crate::ids::Name;
use crate::reply::{Refusal, Reply};

const WEIGHT_MAX: u32 = 10_000;
const PAYLOAD_MAX: u32 = 8 << 20;

impl Core {
    pub(super) fn set_tenant(
        &mut self,
        name: Name,
        mut settings: TenantSettings,
        create_only: bool,
    ) -> Result<Reply, Refusal> {
        check_settings(&settings)?;
        if self.has(Defect::ConcurrencyIgnored) {
            settings.concurrency_limit = 0;
        }
        if self.has(Defect::ConcurrencyOffByOne) && settings.concurrency_limit > 0 {
            settings.concurrency_limit += 1;
        }
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
        let tenant = &mut self.tenants[number as usize];
        let old = &tenant.row.settings;
        let (rate, was_open) = (old.rate_limit, tenant.open());
        let reordered = old.aging != settings.aging;
        if rate != settings.rate_limit {
            let state = tenant.row.rate_state;
            tenant.row.rate_state = gate::convert(rate.as_ref(), settings.rate_limit.as_ref(), state, now);
        }
        tenant.row.settings = settings.clone();
        self.mark_tenant(number);
        self.refresh_gates(number, was_open);
        if rate != settings.rate_limit {
            // If the new limit refuses it as well, it parks again when its turn comes.
            self.wake(number);
        }
        if reordered {
            let queues: Vec<u32> = self.tenants[number as usize].queues.values().copied().collect();
            for queue in queues {
                self.refresh_queue(queue);
            }
        }
    }

    fn refresh_queue(&mut self, queue: u32) {
        for i in 0..self.queues[queue].lanes.len() {
            self.refresh_lane(self.queues[queue].lanes[i]);
        }
    }

    pub(super) fn pause_queue(
        &mut self,
        tenant: Name,
        queue: Name,
        paused: bool,
        note: Name,
    ) -> Result<Reply, Refusal> {
        let tenant = self.tenant_number(&tenant)?;
        let number = self.queue_number(tenant, &queue);
        let state = &mut self.queues[number];
        state.paused = paused;
        state.note = if paused { note } else { "".into() };
        let digest = text(&state.note) ^ u64::from(paused);
        self.effects
            .note(Effect::QueueSet, u64::from(tenant) ^ text(&queue), digest);
        let key = (tenant, queue);
        if paused || self.dirty.queues_written.contains(&key) {
            self.dirty.queues.insert(key);
        } else {
            // Its row came and went since rows were taken.
            self.dirty.queues.remove(&key);
        }
        self.refresh_queue(number);
        self.release_queue(number);
        Ok(Reply::Done)
    }
}

fn settings_digest(settings: &TenantSettings) -> u64 {
    text(&format!("{settings:?}"))
}

fn check_settings(settings: &TenantSettings) -> Result<(), Refusal> {
    if !(1..=WEIGHT_MAX).contains(&settings.weight) {
        return Err(out_of_range("weight", settings.weight, "1 to 10000"));
    }
    if settings.payload_bytes_max == 0 || settings.payload_bytes_max > PAYLOAD_MAX {
        return Err(out_of_range(
            "payload_bytes_max",
            settings.payload_bytes_max,
            "1 to 8388608",
        ));
    }
    let Some(limit) = &settings.rate_limit else {
        return Ok(());
    };
    if !(1..=gate::COUNT_MAX).contains(&limit.count) {
        return Err(out_of_range("rate_limit.count", limit.count, "1 to 1000000000"));
    }
    if !(1..=gate::PERIOD_MAX).contains(&limit.period) {
        return Err(out_of_range("rate_limit.period", limit.period, "1 ms to 31 days"));
    }
    if limit.burst == 0 {
        return Err(out_of_range("rate_limit.burst", 0, "from 1"));
    }
    Ok(())
}
