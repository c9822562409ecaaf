//! Guarantees: slots that a tenant has for sure, as long as it has jobs for them.
//!
//! A tenant that runs jobs in fewer slots than it is guaranteed, over all fleets, is *below its guarantee*: before each class it
//! stands before all that are not. What it does not use anybody else takes at once, and gives it back as attempts end.
//!
//! Among those below their guarantees the order is that of shares (`fair.rs`), by tags and a fleet's time of their own:
//! `guarantee_tag` and `guarantee_time`, which such starts alone are charged to. The usual tag is charged for such a start as for any other, since a guarantee is a floor
//! under a share and not something on top of it. But the fleet's virtual time does not follow: it was not the tenant's turn, and
//! those whose turn it was would lose what they are behind. So the usual tag of a tenant whose guarantee is more than its share
//! runs ahead of the fleet. It may be ahead by twice what its running attempts were charged and no more: others save up nothing,
//! and when the share becomes more than the guarantee, the tenant gets it in about the time that those attempts take.
//!
//! Who is below follows from settings and running jobs; tags are persisted.

use crate::class::Standing;
use crate::core::Core;
use crate::defect::Defect;
use crate::fair::share_of;
use crate::fleet::FleetId;
use crate::ids::Millis;
use crate::row::ShareRow;
use crate::tenant::Share;

impl Core {
    /// The tenant runs jobs in fewer slots than it is guaranteed.
    pub(crate) fn is_below_guarantee(&self, number: u32) -> bool {
        let tenant = &self.tenants[number as usize];
        tenant.running_slots < u64::from(tenant.row.settings.guaranteed_slots) && !self.has(Defect::GuaranteeIgnored)
    }

    /// Where the tenant stands in a fleet.
    pub(crate) fn standing(&self, number: u32, fleet: FleetId) -> Standing {
        let shares = &self.tenants[number as usize].shares;
        match shares.iter().find(|share| share.row.fleet == fleet) {
            Some(share) => self.standing_of(number, &share.row),
            None => standing(number, self.is_below_guarantee(number), &ShareRow::default()),
        }
    }

    pub(crate) fn standing_of(&self, number: u32, share: &ShareRow) -> Standing {
        standing(number, self.is_below_guarantee(number), share)
    }

    /// A job of the tenant has begun or ceased to take slots.
    pub(crate) fn change_running_slots(&mut self, number: u32, change: i64) {
        let was_below = self.is_below_guarantee(number);
        let slots = &mut self.tenants[number as usize].running_slots;
        *slots = slots.saturating_add_signed(change);
        self.follow_guarantee(number, was_below);
    }

    /// Call after the tenant may have come below or above its guarantee, with how it was before.
    fn follow_guarantee(&mut self, number: u32, was_below: bool) {
        if self.is_below_guarantee(number) == was_below {
            return;
        }
        let tenant = &self.tenants[number as usize];
        for (class, slots, _) in &tenant.places {
            let class = &mut self.classes[*class];
            let own = |share: &&Share| share.row.fleet == class.fleet;
            let Some(share) = tenant.shares.iter().find(own) else {
                continue;
            };
            let [before, after] = [was_below, !was_below].map(|below| standing(number, below, &share.row));
            let runnable = &mut class.shelf_mut(*slots).runnable;
            if runnable.remove(&before) {
                runnable.insert(after);
            }
        }
    }

    /// The settings of the tenant guarantee it other slots than before.
    pub(crate) fn guarantee_changed(&mut self, number: u32, was_below: bool) {
        self.follow_guarantee(number, was_below);
        let tenant = &mut self.tenants[number as usize];
        if tenant.row.settings.guaranteed_slots == 0 {
            for share in &mut tenant.shares {
                share.row.guarantee_tag = 0;
                share.row.guarantee_owed = 0;
            }
        }
    }

    /// Charges a start below the guarantee to those tags, and moves their time in the fleet.
    pub(crate) fn charge_guarantee(&mut self, number: u32, at: usize, fleet: FleetId, cost: Millis) {
        let weight = self.tenants[number as usize].row.settings.weight;
        let time = self.guarantee_time(fleet);
        let mut start = time;
        self.change_share(number, at, |share| {
            start = share.guarantee_tag.max(time.saturating_sub(share.guarantee_owed));
            share.guarantee_owed = share.guarantee_owed.min(time.saturating_sub(start));
            share.guarantee_tag = start.saturating_add(share_of(cost, weight));
        });
        if start > time
            && let Some(state) = self.fleets.get_mut(&fleet)
        {
            state.row.guarantee_time = start;
            self.mark_fleet(fleet);
        }
    }

    /// The usual tag after a start below the guarantee: no further ahead of the fleet than it may be.
    pub(crate) fn bounded_debt(&self, number: u32, fleet: FleetId, tag: u64) -> u64 {
        if self.has(Defect::GuaranteeDebtUnbounded) {
            return tag;
        }
        let tenant = &self.tenants[number as usize];
        let ahead = share_of(tenant.charged.saturating_mul(2), tenant.row.settings.weight);
        tag.min(self.virtual_time(fleet).saturating_add(ahead))
    }

    fn guarantee_time(&self, fleet: FleetId) -> u64 {
        self.fleets.get(&fleet).map_or(0, |fleet| fleet.row.guarantee_time)
    }
}

fn standing(number: u32, below: bool, share: &ShareRow) -> Standing {
    let tag = if below { share.guarantee_tag } else { share.tag };
    (!below, tag, number)
}
