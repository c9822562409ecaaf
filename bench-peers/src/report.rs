//! What came out, for people and for programs.

use std::fmt::Write;

use muster_bench::process;
use serde::Serialize;

use crate::args::{Args, PAYLOAD_BYTES, PREFETCH, WORKERS};
use crate::load::{IN_HAND, Load, Measured};
use crate::system::Kind;
use crate::table::{Row, Spread, markdown, median, number, spread};

/// One system's turn of one round.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    pub kind: Kind,
    pub round: u32,
    pub version: String,
    /// Appends of 4 KiB with fdatasync per second, before the system was started.
    pub disk_syncs_per_second: f64,
    /// Resident memory of all servers before the first job, in MiB.
    pub idle_memory_mib: Option<f64>,
    pub measured: Vec<Measured>,
}

impl Turn {
    pub fn new(kind: Kind, round: u32) -> Self {
        Self {
            kind,
            round,
            version: "?".into(),
            disk_syncs_per_second: 0.0,
            idle_memory_mib: None,
            measured: Vec::new(),
        }
    }
}

/// What a system did not do.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    pub kind: Kind,
    pub round: u32,
    pub error: String,
}

impl Failure {
    pub fn new(kind: Kind, round: u32, error: &anyhow::Error) -> Self {
        Self {
            kind,
            round,
            error: format!("{error:#}"),
        }
    }
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub payload_bytes: usize,
    pub rounds: u32,
    pub seconds: u64,
    pub processors: usize,
    /// Of the machine at the beginning and at the end, all that is measured included at the end.
    pub load_average: [f64; 2],
    pub turns: Vec<Turn>,
    pub failures: Vec<Failure>,
    #[serde(skip)]
    kinds: Vec<Kind>,
    #[serde(skip)]
    loads: Vec<Load>,
}

impl Report {
    pub fn new(args: &Args) -> Self {
        Self {
            payload_bytes: PAYLOAD_BYTES,
            rounds: args.rounds,
            seconds: args.seconds,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            load_average: [process::load_average(), 0.0],
            turns: Vec::new(),
            failures: Vec::new(),
            kinds: args.systems(),
            loads: args.loads(),
        }
    }

    pub fn markdown(&self) -> String {
        let syncs = Spread::of(self.turns.iter().map(|turn| turn.disk_syncs_per_second));
        let mut text = format!(
            "{} rounds of {} s per load, systems in turns; {} processors for servers and load together; payload {} bytes\n\
             disk: {} syncs of 4 KiB/s; load average: {:.1} at the beginning, {:.1} at the end\n\
             median (least to most) of the rounds; `Muster :` is the ratio of the rates in the same round\n\n",
            self.rounds,
            self.seconds,
            self.processors,
            self.payload_bytes,
            spread(syncs, 0),
            self.load_average[0],
            self.load_average[1],
        );
        text.push_str(&self.systems());
        for load in &self.loads {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{}:\n\n{}", caption(*load), self.load_table(*load));
        }
        for failure in &self.failures {
            let _ = writeln!(
                text,
                "\nfailed: {}, round {}: {}",
                failure.kind.name(),
                failure.round,
                failure.error
            );
        }
        text
    }

    /// What the systems are, and what they take.
    fn systems(&self) -> String {
        let rows: Vec<Row> = (self.kinds.iter())
            .map(|kind| {
                let turns = || self.turns.iter().filter(|turn| turn.kind == *kind);
                let filled = || {
                    turns()
                        .flat_map(|turn| &turn.measured)
                        .filter_map(|one| one.filled.as_ref())
                };
                let mib = filled().map(|filled| filled.disk_bytes as f64 / f64::from(1 << 20));
                let queued = filled().map(|filled| filled.jobs).max();
                vec![
                    kind.name().into(),
                    turns().map(|turn| turn.version.clone()).next().unwrap_or_default(),
                    kind.replicas().to_string(),
                    median(Spread::of(turns().filter_map(|turn| turn.idle_memory_mib)), 0),
                    queued.map_or_else(|| "–".into(), |jobs| number(jobs as f64, 0)),
                    median(Spread::of(filled().filter_map(|filled| filled.memory_mib)), 0),
                    median(Spread::of(mib), 0),
                ]
            })
            .collect();
        let head = [
            "system",
            "version",
            "replicas",
            "memory, idle, MiB",
            "jobs queued",
            "memory, MiB",
            "disk, MiB",
        ];
        let mut text = markdown(&head, &rows);
        text.push_str("\nMemory and disk are those of all servers, files that are allocated ahead included. An acknowledged job is on:\n\n");
        for kind in &self.kinds {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "- {}: {}", kind.name(), kind.durability());
        }
        text
    }

    fn load_table(&self, load: Load) -> String {
        let rows: Vec<Row> = self.kinds.iter().map(|kind| self.row(*kind, &load.name())).collect();
        let head = [
            "",
            "jobs/s",
            "Muster :",
            "ack p50 ms",
            "p99",
            "start p50 ms",
            "p99",
            "CPU s/100k, servers",
            "load",
            "written B/job",
        ];
        markdown(&head, &rows)
    }

    fn row(&self, kind: Kind, load: &str) -> Row {
        let all: Vec<&Measured> = (1..=self.rounds)
            .filter_map(|round| self.find(kind, round, load))
            .collect();
        let of = |pick: fn(&Measured) -> Option<f64>| Spread::of(all.iter().filter_map(|one| pick(one)));
        let ratios = (1..=self.rounds).filter_map(|round| {
            let (muster, other) = (self.find(Kind::Muster, round, load)?, self.find(kind, round, load)?);
            Some(muster.rate / other.rate)
        });
        vec![
            kind.name().into(),
            spread(of(|one| Some(one.rate)), 0),
            if kind == Kind::Muster {
                String::new()
            } else {
                spread(Spread::of(ratios), 1)
            },
            median(of(|one| Some(one.acknowledged_ms?.p50)), 2),
            median(of(|one| Some(one.acknowledged_ms?.p99)), 1),
            median(of(|one| Some(one.started_ms?.p50)), 2),
            median(of(|one| Some(one.started_ms?.p99)), 1),
            median(of(|one| one.server_cpu_seconds_per_100k), 1),
            median(of(|one| one.client_cpu_seconds_per_100k), 1),
            median(of(|one| one.written_bytes_per_job), 0),
        ]
    }

    fn find(&self, kind: Kind, round: u32, load: &str) -> Option<&Measured> {
        let mut turns = self.turns.iter();
        let turn = turns.find(|turn| turn.kind == kind && turn.round == round)?;
        turn.measured.iter().find(|one| one.load == load)
    }
}

fn caption(load: Load) -> String {
    let name = load.name();
    match load {
        Load::Drain => format!("{name}: {WORKERS} workers with {PREFETCH} jobs in hand each"),
        Load::Life => {
            format!("{name}, {WORKERS} workers with {IN_HAND} jobs in hand together: enqueue, fetch, acknowledge")
        }
        Load::Paced(_) => format!("{name}: times count from when a job was due"),
        Load::Enqueue(_) | Load::Batch => name,
    }
}
