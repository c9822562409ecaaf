//! The simulator: the queue core on a modelled replicated log, in one thread, under faults. The seed decides
//! everything.

mod calls;
mod clients;
mod defect;
mod faults;
mod limits;
mod log;
mod node;
mod rng;
mod scan;
mod script;
mod shrink;
mod workers;
mod world;

use std::io::Write;

use crate::history::{Micros, Record};
use crate::sim::script::Script;
use crate::sim::world::{DRAIN_BOUND, World};
use crate::tally::Tally;

pub use crate::sim::defect::Chosen;
pub use crate::sim::script::{Mode, Options};
pub use crate::sim::shrink::{Shrunk, shrink};
pub use crate::sim::world::Stats;

/// Simulated time after which a run is given up.
const GIVE_UP: Micros = 3 * DRAIN_BOUND;
/// Beats between two looks at whether everything is drained.
const LOOK_EVERY: u64 = 20;

/// What came of a run.
pub struct Outcome {
    /// What was done.
    pub stats: Stats,
    /// The verdicts, if the run was judged.
    pub tally: Option<Tally>,
    /// What the simulator itself found: states that differ, recounts that do not add up, panics.
    pub failures: Vec<String>,
    /// Hash of everything that happened, in order: equal for equal seeds.
    pub trace: u64,
}

impl Outcome {
    /// Nothing is wrong.
    pub fn good(&self) -> bool {
        self.failures.is_empty() && self.tally.as_ref().is_none_or(|tally| tally.violations() == 0)
    }

    /// Who found something: ids of invariants and names of the simulator's own checks.
    pub fn found_by(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        if let Some(tally) = &self.tally {
            let broken = tally.verdicts.iter().filter(|verdict| verdict.total > 0);
            found.extend(broken.map(|verdict| verdict.id.to_owned()));
        }
        for failure in &self.failures {
            let name = failure.split(':').next().unwrap_or(failure).to_owned();
            if !found.contains(&name) {
                found.push(name);
            }
        }
        found
    }
}

/// Runs one seed.
pub fn run(options: Options, chosen: Chosen) -> Outcome {
    follow(options, Script::draw(&options), chosen, None)
}

/// Runs one seed and writes its history.
pub fn record(options: Options, chosen: Chosen, history: &mut dyn Write) -> Outcome {
    let options = Options {
        judged: true,
        ..options
    };
    follow(options, Script::draw(&options), chosen, Some(history))
}

/// Runs a script; a panic of the core is a failure like any other.
fn follow(options: Options, script: Script, chosen: Chosen, copy: Option<&mut dyn Write>) -> Outcome {
    let run = std::panic::AssertUnwindSafe(|| live(options, script, chosen, copy));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Outcome {
            stats: Stats::default(),
            tally: None,
            failures: vec![format!("panic: {text}")],
            trace: 0,
        }
    })
}

fn live(options: Options, script: Script, chosen: Chosen, copy: Option<&mut dyn Write>) -> Outcome {
    let healed_at = script.healed_at();
    let mut world = World::new(options, script, chosen, copy);
    let calls_over = |world: &World<'_>| world.clients_done() && world.in_force.is_empty() && world.now >= healed_at;
    // A run that has failed goes on for nothing.
    while !calls_over(&world) && world.failures.is_empty() && world.now < GIVE_UP {
        world.step();
    }
    if options.mode == Mode::Liveness && world.failures.is_empty() {
        world.drain();
    }
    if world.failures.is_empty() {
        world.settle();
        world.scan();
    }
    let mut stats = world.stats;
    stats.micros = world.now;
    Outcome {
        stats,
        tally: world
            .facts
            .as_ref()
            .filter(|_| world.failures.is_empty())
            .map(Tally::of),
        failures: world.failures,
        trace: world.trace,
    }
}

impl World<'_> {
    /// No faults any more: queues and kinds are resumed, and all work gets done or the bound is over.
    fn drain(&mut self) {
        self.note(|at| Record::Healed { at });
        self.resume_all();
        let bound = self.now + DRAIN_BOUND;
        let mut looked = self.beats;
        while self.now < bound && self.failures.is_empty() {
            self.step();
            // Once in that many beats, not at every step until the next beat: a look makes steps of its own.
            if self.beats < looked + LOOK_EVERY {
                continue;
            }
            looked = self.beats;
            if self.drained() {
                return;
            }
            if let Some(leader) = self.able_leader() {
                self.release_orders(leader);
            }
        }
    }

    fn drained(&self) -> bool {
        let idle = self.clients_done() && self.oldest_run().is_none();
        let level = || {
            let all = self.log.len() as u64;
            self.nodes.iter().all(|node| node.up && node.applied() == all)
        };
        let leader = self.able_leader();
        idle && level() && leader.is_some_and(|leader| self.nodes[leader].core.live().total() == 0)
    }
}
