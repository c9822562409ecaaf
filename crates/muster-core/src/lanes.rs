//! How long lanes and queues live, and how a job's lane is found.

use crate::core::Core;
use crate::gate::NOBODY;
use crate::hash::text;
use crate::ids::Name;
use crate::job::JobSpec;
use crate::lane::Lane;
use crate::limit::{JobLimits, LimitLevel};
use crate::tenant::Queue;

/// Where to look for a lane. What hashes alike is told apart by comparison.
fn lane_hash(tenant: u32, route: u32, limits: &JobLimits) -> u64 {
    let mut hash = u64::from(tenant) << 32 | u64::from(route);
    hash ^= u64::from(limits.cost - 1).rotate_left(17);
    for key in &limits.keys {
        hash = (hash ^ text(&key.key) ^ u64::from(key.cost)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    hash
}

impl Core {
    /// The queue's number; made if it is not there.
    pub(crate) fn queue_number(&mut self, tenant: u32, name: &Name) -> u32 {
        if let Some(number) = self.tenants[tenant as usize].queues.get(name) {
            return *number;
        }
        let number = self.queues.insert(Queue {
            tenant,
            name: name.clone(),
            paused: false,
            note: "".into(),
            weight: 0,
            live: Default::default(),
            lanes: Vec::new(),
            gate: 0,
            held_orders: Default::default(),
        });
        let gate = self.gate_number(LimitLevel::Queue, tenant, name, number);
        // A gate that is remembered from an earlier queue of this name belongs to this one from now on.
        self.gates[gate].owner = number;
        self.hold_gate(gate);
        self.queues[number].gate = gate;
        self.tenants[tenant as usize].queues.insert(name.clone(), number);
        number
    }

    /// Frees a queue that has neither jobs nor anything else to remember.
    pub(crate) fn release_queue(&mut self, number: u32) {
        let queue = &self.queues[number];
        if queue.lanes.is_empty() && !queue.kept() {
            let gate = queue.gate;
            self.release_gate(gate);
            let queue = &self.queues[number];
            if let Some(gate) = self.gates.get_mut(gate).filter(|gate| gate.owner == number) {
                gate.owner = NOBODY;
            }
            self.tenants[queue.tenant as usize].queues.remove(&queue.name);
            self.queues.remove(number);
        }
    }

    fn find_lane(&self, hash: u64, tenant: u32, route: u32, limits: &JobLimits) -> Option<u32> {
        let mut next = self.lane_of.get(&hash).copied();
        while let Some(number) = next {
            let lane = &self.lanes[number];
            if lane.tenant == tenant && lane.route == route && lane.limits == *limits {
                return Some(number);
            }
            next = lane.next;
        }
        None
    }

    /// The lane that is found for jobs like those of this one.
    pub(crate) fn lane_like(&self, number: u32) -> Option<u32> {
        let lane = &self.lanes[number];
        let hash = lane_hash(lane.tenant, lane.route, &lane.limits);
        self.find_lane(hash, lane.tenant, lane.route, &lane.limits)
    }

    /// Number of the lane for a job; made if it is not there.
    pub(crate) fn lane_number(&mut self, tenant: u32, spec: &JobSpec) -> u32 {
        let (route, new) = self.routes.intern(spec);
        if new {
            for number in self.class_of.values() {
                if crate::route::matches(&self.classes[*number].what, &self.routes.get(route).key) {
                    self.routes.get_mut(route).classes.push(*number);
                }
            }
        }
        let limits = &spec.options.limits;
        let hash = lane_hash(tenant, route, limits);
        if let Some(lane) = self.find_lane(hash, tenant, route, limits) {
            return lane;
        }
        let key = &self.routes.get(route).key;
        let (queue, kind, slots) = (key.queue.clone(), key.kind.clone(), key.slots);
        let queue = self.queue_number(tenant, &queue);
        let name = &self.tenants[tenant as usize].row.name;
        let accepts = |class: &u32| self.serves_tenant(*class, name);
        let mut lane = Lane::new(tenant, queue, route, limits.clone());
        lane.classes = self.routes.get(route).classes.iter().copied().filter(accepts).collect();
        lane.cost = self.tenants[tenant as usize].cost_number(&kind);
        lane.slots = slots;
        lane.line = self.line_of(queue);
        lane.held = self.queues[queue].lanes.len() as u32;
        lane.kind_gate = self.gate_number(LimitLevel::Kind, tenant, &kind, tenant);
        self.hold_gate(lane.kind_gate);
        let mut gates = Vec::with_capacity(limits.keys.len());
        for key in &limits.keys {
            let gate = self.gate_number(LimitLevel::Key, tenant, &key.key, tenant);
            self.hold_gate(gate);
            gates.push(gate);
        }
        lane.key_gates = gates.into();
        lane.next = self.lane_of.get(&hash).copied();
        let number = self.lanes.insert(lane);
        self.lane_of.insert(hash, number);
        self.queues[queue].lanes.push(number);
        self.routes.get_mut(route).lanes += 1;
        number
    }

    /// One live job less in a lane; the last one takes the lane with it, and perhaps the queue and its gates.
    pub(crate) fn release_lane(&mut self, number: u32) {
        let lane = &mut self.lanes[number];
        lane.jobs -= 1;
        if lane.jobs > 0 {
            return;
        }
        self.unlink_lane(number);
        let Some(lane) = self.lanes.remove(number) else { return };
        self.routes.release(lane.route);
        let lanes = &mut self.queues[lane.queue].lanes;
        lanes.swap_remove(lane.held as usize);
        if let Some(moved) = lanes.get(lane.held as usize) {
            self.lanes[*moved].held = lane.held;
        }
        for (gate, _) in lane.gates() {
            self.release_gate(gate);
        }
        self.release_queue(lane.queue);
    }

    /// Takes a lane out of the list of those that hash alike.
    fn unlink_lane(&mut self, number: u32) {
        let lane = &self.lanes[number];
        let (hash, next) = (lane_hash(lane.tenant, lane.route, &lane.limits), lane.next);
        if self.lane_of.get(&hash) == Some(&number) {
            match next {
                Some(next) => self.lane_of.insert(hash, next),
                None => self.lane_of.remove(&hash),
            };
            return;
        }
        let mut at = self.lane_of.get(&hash).copied();
        while let Some(before) = at {
            at = self.lanes[before].next;
            if at == Some(number) {
                self.lanes[before].next = next;
                return;
            }
        }
    }
}
