//! Faults: begun, over, and whether they did anything.

use crate::history::{Fault, FaultKind, Record};
use crate::sim::rng::Rng;
use crate::sim::script::Mode;
use crate::sim::world::{InForce, What, World};

impl World<'_> {
    /// Faults of this kind in force were seen to do something.
    pub(crate) fn effect(&mut self, kind: FaultKind) {
        for (number, fault) in &mut self.in_force {
            fault.done |= self.script.faults[*number].kind == kind;
        }
    }

    /// The node or worker that a fault is aimed at: every other time the leader.
    fn target(&self, number: usize, count: usize) -> usize {
        let mut rng = Rng::new(self.script.faults[number].seed);
        match self.leader {
            Some(leader) if rng.percent(50) && count == self.nodes.len() => leader,
            _ => rng.below(count as u64) as usize,
        }
    }

    pub(crate) fn begin_fault(&mut self, number: usize) {
        let fault = self.script.faults[number];
        let mut node = self.target(number, self.nodes.len());
        if fault.kind == FaultKind::Snapshot && self.leader == Some(node) {
            // A leader is sent none.
            node = (node + 1) % self.nodes.len();
        }
        let worker = Rng::new(fault.seed ^ 1).below(self.workers.len() as u64) as usize;
        let target = if fault.kind == FaultKind::WorkerKill {
            worker
        } else {
            node
        };
        let since = self.now;
        let in_force = |done| InForce { target, since, done };
        self.in_force.insert(number, in_force(false));
        let mut length = fault.length;
        let done = match fault.kind {
            FaultKind::Kill => self.kill(node),
            FaultKind::Pause => {
                let worked = self.nodes[node].works();
                self.nodes[node].frozen = true;
                worked && self.leader == Some(node)
            }
            FaultKind::Partition => {
                self.nodes[node].side = 1;
                false
            }
            FaultKind::LeaderChange => {
                let old = self.able_leader();
                self.vote(old)
            }
            FaultKind::ClockJump => {
                self.nodes[node].skew += self.jump(number);
                false
            }
            FaultKind::Snapshot => self.install(node),
            FaultKind::WorkerKill => self.kill_worker(worker),
            FaultKind::WorkerHang => {
                length *= 4;
                self.freeze_worker(worker, self.now + length);
                false
            }
            FaultKind::SessionLoss => self.lose_stream(worker, fault.seed.is_multiple_of(3)),
            FaultKind::Delay => count(&mut self.weather.delay),
            FaultKind::Drop => count(&mut self.weather.drop),
            FaultKind::Duplicate => count(&mut self.weather.duplicate),
            FaultKind::DoubleReport => count(&mut self.weather.double_report),
            FaultKind::LateReport => count(&mut self.weather.late_report),
            _ => false,
        };
        self.in_force.insert(number, in_force(done));
        self.after(length, What::FaultOver(number));
    }

    /// How far a clock jumps, in milliseconds.
    fn jump(&self, number: usize) -> i64 {
        let mut rng = Rng::new(self.script.faults[number].seed ^ 2);
        let far = match (self.options.mode, rng.below(10)) {
            (Mode::Safety, 0) => 3_600_000,
            (Mode::Safety, 1) => 90_000,
            _ => 5_000,
        };
        let by = rng.below(far) as i64;
        if rng.percent(50) { by } else { -by }
    }

    fn kill(&mut self, node: usize) -> bool {
        if !std::mem::replace(&mut self.nodes[node].up, false) {
            return false;
        }
        self.nodes[node].crash();
        if self.leader == Some(node) {
            self.leader = None;
        }
        self.drop_streams(node);
        true
    }

    fn install(&mut self, node: usize) -> bool {
        let Some(leader) = self
            .able_leader()
            .filter(|leader| *leader != node && self.linked(*leader, node))
        else {
            return false;
        };
        if self.nodes[leader].applied() < self.nodes[node].applied() {
            return false;
        }
        let rows = self.nodes[leader].core.rows();
        self.drop_streams(node);
        self.check("restore", node, |world| world.nodes[node].install(rows));
        true
    }

    /// Does something that may find the node's data wanting.
    fn check(&mut self, what: &str, node: usize, act: impl FnOnce(&mut Self) -> Result<(), String>) {
        if let Err(fault) = act(self) {
            self.failures.push(format!("{what}: node {node}: {fault}"));
        }
    }

    pub(crate) fn end_fault(&mut self, number: usize) {
        let kind = self.script.faults[number].kind;
        let Some(InForce { target, since, done }) = self.in_force.remove(&number) else {
            return;
        };
        match kind {
            FaultKind::Kill if !self.nodes[target].up => {
                self.check("restore", target, |world| world.nodes[target].restart());
            }
            FaultKind::Pause => self.nodes[target].frozen = false,
            FaultKind::Partition => self.nodes[target].side = 0,
            FaultKind::ClockJump => self.nodes[target].skew = 0,
            FaultKind::WorkerKill => self.revive_worker(target),
            FaultKind::Delay => self.weather.delay -= 1,
            FaultKind::Drop => self.weather.drop -= 1,
            FaultKind::Duplicate => self.weather.duplicate -= 1,
            FaultKind::DoubleReport => self.weather.double_report -= 1,
            FaultKind::LateReport => self.weather.late_report -= 1,
            _ => {}
        }
        let (all, effective) = self.stats.faults.entry(kind).or_default();
        *all += 1;
        *effective += u64::from(done);
        // One that did nothing is counted, and is no part of the history.
        if done {
            self.note(|end| {
                Record::Fault(Fault {
                    kind,
                    target: target.to_string(),
                    start: since,
                    end,
                    took_effect: true,
                })
            });
        }
    }
}

fn count(weather: &mut u32) -> bool {
    *weather += 1;
    false
}
