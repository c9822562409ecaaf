//! Gathering: how a job that takes more slots than any session has free comes to its start.
//!
//! When it is the turn of such a job, one session of the class that has room keeps what becomes free until it has as many
//! slots as the job takes; then the tenant whose turn it was gets them. Meanwhile everything else goes on in the other
//! sessions. Only one session of a class gathers at a time, so what may stand idle is bounded, and it ends when the attempts
//! that this session ran have ended.
//!
//! Which session gathers, for whom and how much, is persisted with the session. Whether it still should follows from what
//! waits, and is looked at in each entry.

use crate::class::Gather;
use crate::core::Core;
use crate::defect::Defect;
use crate::ids::TenantId;
use crate::lane::Stand;
use crate::row::GatherRow;

/// Most sessions of a class that are looked at for one to gather, those with most free slots first. More have to be looked
/// at only where workers give fewer slots than they said.
const LOOK_MAX: usize = 32;

/// How a gathering stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// There is too little as yet.
    Waits,
    /// It has as many as it is to have.
    Full,
    /// Nobody waits for so many slots any more, or the session will not have them.
    Vain,
    /// Another session has more to begin with.
    Behind,
}

impl Core {
    /// The class has both a job and the slots for it, or something is to be done about gathering.
    pub(crate) fn is_assignable(&self, number: u32) -> bool {
        let class = &self.classes[number];
        match &class.gather {
            Some(gather) => self.progress(number, gather) != Progress::Waits || class.has_runnable(class.most_free()),
            None => !class.ready.is_empty() && class.has_runnable(self.reach(number)),
        }
    }

    /// Most slots that a job may take whose turn it can be: as many as some session has free, or can gather.
    pub(crate) fn reach(&self, number: u32) -> u64 {
        let class = &self.classes[number];
        let free = class.most_free();
        let wider = class.shelves.last().is_some_and(|shelf| u64::from(shelf.slots) > free);
        if !wider || class.gather.is_some() || self.has(Defect::NothingGathers) {
            return free;
        }
        let sessions = class.ready.iter().take(LOOK_MAX);
        sessions
            .map(|(.., session)| self.sessions[*session].reach())
            .max()
            .unwrap_or(0)
    }

    fn progress(&self, class: u32, gather: &Gather) -> Progress {
        let session = &self.sessions[gather.session];
        let waits = self.classes[class].shelf(gather.slots).is_some_and(|shelf| {
            let standing = self.standing(gather.tenant, self.classes[class].fleet);
            shelf.runnable.contains(&standing)
        });
        if !waits || session.reach() < u64::from(gather.slots) {
            return Progress::Vain;
        }
        if session.free() >= u64::from(gather.slots) {
            return Progress::Full;
        }
        match self.gatherer(class, gather.slots) {
            Some(other) if self.sessions[other].free() > session.free() => Progress::Behind,
            _ => Progress::Waits,
        }
    }

    /// Of the sessions with room the one with most of it that can gather so many slots.
    fn gatherer(&self, class: u32, slots: u32) -> Option<u32> {
        let sessions = self.classes[class].ready.iter().take(LOOK_MAX);
        sessions
            .map(|(.., session)| *session)
            .find(|session| self.sessions[*session].reach() >= u64::from(slots))
    }

    /// Lets a session gather for the tenant. False if none can.
    pub(crate) fn begin_gather(&mut self, class: u32, tenant: u32, slots: u32) -> bool {
        let Some(session) = self.gatherer(class, slots) else {
            return false;
        };
        self.classes[class].gather = Some(Gather { session, tenant, slots });
        self.gathering.push(class);
        let tenant = self.tenants[tenant as usize].row.id;
        self.change_session(session, |session| {
            session.row.gathers = Some(GatherRow { tenant, slots });
        });
        true
    }

    /// The session's slots are for everybody again.
    pub(crate) fn end_gather(&mut self, class: u32) {
        if let Some(gather) = self.classes[class].gather.take() {
            self.gathering.retain(|other| *other != class);
            self.change_session(gather.session, |session| session.row.gathers = None);
        }
    }

    /// Puts a restored gathering into its class. False if there is one already.
    pub(crate) fn restore_gather(&mut self, class: u32, session: u32, row: GatherRow) -> bool {
        let TenantId(tenant) = row.tenant;
        let gather = Gather {
            session,
            tenant: (tenant - 1) as u32,
            slots: row.slots,
        };
        self.gathering.push(class);
        self.classes[class].gather.replace(gather).is_none()
    }

    /// All gatherings are looked at, and their classes go on if they can.
    pub(crate) fn look_at_gathers(&mut self) {
        for i in 0..self.gathering.len() {
            let class = self.gathering[i];
            self.look_at_gather(class);
            self.heat(class);
        }
    }

    /// What a session of the class gathers for may have been stopped by a limit or a pause: its lanes are parked, so that the
    /// gathering is seen to be in vain. Which lanes are parked already depends on what was tried, and a node that was just
    /// restored has parked all that are stopped; after this it does not, so it comes before every look at how it stands.
    pub(crate) fn look_at_gather(&mut self, class: u32) {
        while let Some((lane, stand)) = self.stopped_lane(class) {
            self.park(lane, stand);
        }
    }

    /// Of the first lanes for which the class gathers, one that cannot start for other reasons.
    fn stopped_lane(&self, class: u32) -> Option<(u32, Stand)> {
        let gather = self.classes[class].gather?;
        let heads = &self.classes[class].shelf(gather.slots)?.heads;
        let places = &self.tenants[gather.tenant as usize].places;
        let own = places
            .iter()
            .filter(|place| (place.0, place.1) == (class, gather.slots));
        let mut lanes = own.filter_map(|place| heads.get(&(gather.tenant, place.2))?.first());
        lanes.find_map(|(_, lane)| Some((*lane, self.closed_gate(*lane)?)))
    }

    /// Goes on with a gathering: gives it up if it is in vain, or returns the session and the tenant that has its turn now.
    pub(crate) fn gathered(&mut self, class: u32) -> Option<(u32, u32)> {
        let gather = self.classes[class].gather?;
        match self.progress(class, &gather) {
            Progress::Waits => None,
            Progress::Full => Some((gather.session, gather.tenant)),
            Progress::Vain => {
                self.end_gather(class);
                None
            }
            Progress::Behind => {
                self.end_gather(class);
                self.begin_gather(class, gather.tenant, gather.slots);
                None
            }
        }
    }

    /// Tenants for which a session of the fleet gathers, each once.
    pub(crate) fn gathering_tenants(&self, fleet: crate::fleet::FleetId) -> Vec<u32> {
        if self.gathering.is_empty() {
            return Vec::new();
        }
        let classes = self.gathering.iter().map(|class| &self.classes[*class]);
        let of_fleet = classes.filter(|class| class.fleet == fleet);
        let mut tenants: Vec<u32> = of_fleet.filter_map(|class| Some(class.gather?.tenant)).collect();
        tenants.sort_unstable();
        tenants.dedup();
        tenants
    }
}
