//! The ideal division, computed as a fluid.

use std::collections::BTreeMap;

/// A job to come.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) after: u64,
    pub(super) tenant: usize,
    pub(super) queue: usize,
    pub(super) slots: u32,
    pub(super) run: u64,
}

/// What is set up once.
#[derive(Clone, Debug)]
pub(super) struct Fleet {
    /// Slots of each worker.
    pub(super) workers: Vec<u32>,
    /// Weights of tenants.
    pub(super) weights: Vec<u32>,
    /// Slots that they are guaranteed.
    pub(super) guarantees: Vec<u32>,
    /// Weight of the second queue, 0: none. The first has none.
    pub(super) queue_weight: u32,
}

impl Fleet {
    pub(super) fn slots(&self) -> u32 {
        self.workers.iter().sum()
    }

    pub(super) fn line_weight(&self, queue: usize) -> u32 {
        match (queue, self.queue_weight) {
            (1, weight) if weight > 0 => weight,
            _ => 100,
        }
    }

    /// The line of a queue: without weights there is one.
    pub(super) fn line(&self, queue: usize) -> usize {
        if self.queue_weight == 0 { 0 } else { queue }
    }
}

/// Worker time received by tenant and line, in slots × ms.
pub(super) type Service = BTreeMap<(usize, usize), f64>;

/// Divides a capacity by weights. Each has a weight, a floor and a want: nobody gets more than it wants, nor less than its floor
/// or its want as long as the capacity reaches; where it does not, the floors are divided by weights.
pub(super) fn fill(capacity: f64, wants: &[(f64, f64, f64)]) -> Vec<f64> {
    let floors: f64 = wants.iter().map(|(_, floor, want)| floor.min(*want)).sum();
    let parts = |level: f64| {
        let part = |(weight, floor, want): &(f64, f64, f64)| {
            if floors > capacity {
                floor.min(*want).min(weight * level)
            } else {
                want.min(floor.max(weight * level))
            }
        };
        wants.iter().map(part).collect::<Vec<f64>>()
    };
    // The sum is a broken line of the level; it bends where a tenant comes above its floor or has what it wants.
    let bends = wants
        .iter()
        .flat_map(|(weight, floor, want)| [floor / weight, want / weight]);
    let mut bends: Vec<f64> = bends.collect();
    bends.sort_by(f64::total_cmp);
    let mut low = 0.0;
    for high in bends {
        let [below, above] = [low, high].map(|level| parts(level).iter().sum::<f64>());
        if above >= capacity && above > below {
            return parts(low + (high - low) * (capacity - below).max(0.0) / (above - below));
        }
        low = high;
    }
    parts(low)
}

/// The ideal: jobs are fluids.
#[derive(Default)]
pub(super) struct Ideal {
    pub(super) now: f64,
    /// By tenant and line: slots and work left of each job, oldest first.
    pub(super) lines: BTreeMap<(usize, usize), Vec<(f64, f64)>>,
    pub(super) service: Service,
}

impl Ideal {
    /// Rates of all jobs just now, by line, in the order of its jobs.
    fn rates(&self, fleet: &Fleet, slots: u32) -> BTreeMap<(usize, usize), Vec<f64>> {
        let demand = |line: &(usize, usize)| self.lines[line].iter().map(|(slots, _)| *slots).sum::<f64>();
        let tenants: Vec<usize> = (0..fleet.weights.len()).collect();
        let of = |tenant: usize| self.lines.keys().filter(move |line| line.0 == tenant);
        let wants: Vec<_> = tenants
            .iter()
            .map(|tenant| {
                let [weight, floor] = [&fleet.weights, &fleet.guarantees].map(|all| f64::from(all[*tenant]));
                (weight, floor, of(*tenant).map(demand).sum())
            })
            .collect();
        let parts = fill(f64::from(slots), &wants);
        let mut rates = BTreeMap::new();
        for tenant in tenants {
            let lines: Vec<_> = of(tenant).copied().collect();
            let wants: Vec<_> = lines
                .iter()
                .map(|line| (f64::from(fleet.line_weight(line.1)), 0.0, demand(line)))
                .collect();
            for (line, mut part) in lines.iter().zip(fill(parts[tenant], &wants)) {
                let jobs = self.lines[line].iter().map(|(slots, _)| {
                    let rate = slots.min(part);
                    part -= rate;
                    rate
                });
                rates.insert(*line, jobs.collect());
            }
        }
        rates
    }

    /// Goes on to a time, with so many slots.
    pub(super) fn run_until(&mut self, until: f64, fleet: &Fleet, slots: u32) {
        while self.now < until {
            let rates = self.rates(fleet, slots);
            let mut step = until - self.now;
            for (line, jobs) in &self.lines {
                for ((_, left), rate) in jobs.iter().zip(&rates[line]) {
                    if *rate > 1e-12 {
                        step = step.min(left / rate);
                    }
                }
            }
            for (line, jobs) in &mut self.lines {
                for ((_, left), rate) in jobs.iter_mut().zip(&rates[line]) {
                    *left -= rate * step;
                    *self.service.entry(*line).or_default() += rate * step;
                }
                jobs.retain(|(_, left)| *left > 1e-6);
            }
            self.now += step.max(1e-9);
        }
    }
}

#[test]
fn water_is_filled_as_it_must_be() {
    let without = |wants: [(f64, f64); 2]| fill(10.0, &wants.map(|(weight, want)| (weight, 0.0, want)));
    assert_eq!(without([(1.0, 100.0), (1.0, 100.0)]), [5.0, 5.0]);
    assert_eq!(without([(3.0, 100.0), (1.0, 100.0)]), [7.5, 2.5]);
    assert_eq!(without([(3.0, 3.0), (1.0, 100.0)]), [3.0, 7.0]);
    assert_eq!(without([(1.0, 2.0), (1.0, 3.0)]), [2.0, 3.0]);
    let two = |a, b| fill(10.0, &[a, b]);
    assert_eq!(
        two((1.0, 8.0, 100.0), (3.0, 0.0, 100.0)),
        [8.0, 2.0],
        "a floor above the share"
    );
    assert_eq!(
        two((1.0, 2.0, 100.0), (3.0, 0.0, 99.0)),
        [2.5, 7.5],
        "a floor below the share"
    );
    assert_eq!(
        two((1.0, 8.0, 3.0), (1.0, 0.0, 100.0)),
        [3.0, 7.0],
        "what is not used is lent"
    );
    assert_eq!(
        two((1.0, 8.0, 100.0), (3.0, 0.0, 1.0)),
        [9.0, 1.0],
        "a floor is no ceiling"
    );
    assert_eq!(
        two((1.0, 8.0, 100.0), (1.0, 12.0, 100.0)),
        [5.0, 5.0],
        "too much is guaranteed"
    );
    assert_eq!(two((1.0, 2.0, 100.0), (1.0, 12.0, 100.0)), [2.0, 8.0], "to one of them");
}
