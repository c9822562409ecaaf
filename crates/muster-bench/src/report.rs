//! What is printed.

use std::fmt::Write;

use serde::Serialize;

use crate::measure::Quantiles;
use crate::plot::Plot;

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Scenario and its parameters, e.g. `enqueue, 64 callers`.
    pub name: String,
    /// Jobs done.
    pub jobs: u64,
    /// Time taken in seconds.
    pub seconds: f64,
    /// Jobs per second.
    pub rate: f64,
    /// Calls that failed; their jobs are not counted.
    pub errors: u64,
    /// From call to acknowledgement.
    pub acknowledged_ms: Option<Quantiles>,
    /// From call to the start of the handler.
    pub started_ms: Option<Quantiles>,
    /// Jobs per entry of the replicated log, whatever the entries were for: what each sync is shared by.
    pub jobs_per_log_entry: Option<f64>,
    /// CPU time of all servers per 100,000 jobs, in seconds.
    pub server_cpu_seconds_per_100k: Option<f64>,
    /// CPU time of this program per 100,000 jobs, in seconds.
    pub client_cpu_seconds_per_100k: Option<f64>,
    /// Resident memory of all servers at the end, in MiB.
    pub server_memory_mib: Option<f64>,
}

/// Something that was measured a few times.
#[derive(Clone, Debug, Serialize)]
pub struct Operation {
    /// What.
    pub name: String,
    /// Unit of the values.
    pub unit: &'static str,
    /// In the order in which they were measured.
    pub values: Vec<f64>,
}

impl Operation {
    pub(crate) fn new(name: &str, unit: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            values: Vec::new(),
        }
    }

    /// Adds the 0.99 quantile of calls, unless there were none.
    pub(crate) fn add_p99(&mut self, (quantiles, _failed): (Option<Quantiles>, u64)) {
        self.values.extend(quantiles.map(|quantiles| quantiles.p99));
    }

    fn row(&self) -> String {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else {
            return format!("  {:<76}        –\n", self.name);
        };
        let median = sorted[sorted.len() / 2];
        format!(
            "  {:<76} {median:>8.2} {:<3} ({least:.2} to {most:.2}, {} times)\n",
            self.name,
            self.unit,
            sorted.len()
        )
    }
}

/// All measurements and what they were made on.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of the answering node.
    pub version: String,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// What an acknowledgement means, by the cluster's word.
    pub durability: String,
    /// Appends of 4 KiB with fdatasync per second.
    pub disk_syncs_per_second: f64,
    /// Where that was measured.
    pub disk_probe_dir: String,
    /// Bytes of a payload.
    pub payload_bytes: u32,
    /// Processors that this program may use.
    pub processors: usize,
    /// Load average of the machine at the beginning and at the end, this program and its servers included.
    pub load_average: [f64; 2],
    /// Jobs queued during the operations.
    pub queued_jobs: Option<u64>,
    /// The measurements.
    pub figures: Vec<Figures>,
    /// Times of operations.
    pub operations: Vec<Operation>,
    #[serde(skip)]
    pub(crate) plots: Vec<Plot>,
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let mut rows = vec![
            [
                "",
                "jobs/s",
                "jobs",
                "errors",
                "ack p50",
                "p99",
                "p99.9 ms",
                "start p50",
                "p99",
                "p99.9 ms",
                "jobs/entry",
                "servers CPU",
                "client",
                "memory",
            ]
            .map(str::to_owned),
        ];
        for figures in &self.figures {
            let ms = |quantiles: Option<Quantiles>, pick: fn(Quantiles) -> f64| number(quantiles.map(pick), 2);
            rows.push([
                figures.name.clone(),
                grouped(figures.rate),
                grouped(figures.jobs as f64),
                grouped(figures.errors as f64),
                ms(figures.acknowledged_ms, |q| q.p50),
                ms(figures.acknowledged_ms, |q| q.p99),
                ms(figures.acknowledged_ms, |q| q.p999),
                ms(figures.started_ms, |q| q.p50),
                ms(figures.started_ms, |q| q.p99),
                ms(figures.started_ms, |q| q.p999),
                number(figures.jobs_per_log_entry, 1),
                number(figures.server_cpu_seconds_per_100k, 2),
                number(figures.client_cpu_seconds_per_100k, 2),
                number(figures.server_memory_mib, 0),
            ]);
        }
        let mut text = format!(
            "{} nodes, version {}, {} processors, payload {} bytes\nacknowledged means: {}\ndisk: {} syncs of 4 KiB/s in {}\nload average: {:.1} at the beginning, {:.1} at the end\n\n",
            self.nodes,
            self.version,
            self.processors,
            self.payload_bytes,
            self.durability,
            grouped(self.disk_syncs_per_second),
            self.disk_probe_dir,
            self.load_average[0],
            self.load_average[1],
        );
        if !self.operations.is_empty() {
            // Writing to a string cannot fail.
            let _ = match self.queued_jobs {
                Some(jobs) => writeln!(text, "with {} jobs queued, medians:", grouped(jobs as f64)),
                None => writeln!(text, "medians:"),
            };
            for operation in &self.operations {
                text.push_str(&operation.row());
            }
            text.push('\n');
        }
        if self.figures.is_empty() {
            return text;
        }
        let width = |column: usize| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        for row in &rows {
            for (column, cell) in row.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = match column {
                    0 => write!(text, "{cell:<0$}", width(column)),
                    _ => write!(text, "  {cell:>0$}", width(column)),
                };
            }
            text.push('\n');
        }
        text.push_str("\nCPU: seconds per 100,000 jobs. Memory: MiB of all servers at the end.\n");
        text
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// A whole number with thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(0.4), "0");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
    }

    #[test]
    fn the_table_names_disk_and_durability_and_gaps() {
        let report = Report {
            version: "0.1.0".into(),
            nodes: 3,
            durability: "synced on a majority".into(),
            disk_syncs_per_second: 4_000.0,
            disk_probe_dir: "/tmp".into(),
            payload_bytes: 256,
            processors: 2,
            load_average: [0.0, 1.5],
            queued_jobs: Some(1_000_000),
            operations: vec![Operation {
                name: "a restart".into(),
                unit: "s",
                values: vec![3.0, 1.0, 2.0],
            }],
            plots: Vec::new(),
            figures: vec![Figures {
                name: "enqueue, 64 callers".into(),
                jobs: 100_000,
                seconds: 2.0,
                rate: 50_000.0,
                errors: 0,
                acknowledged_ms: Some(Quantiles {
                    p50: 1.25,
                    p90: 2.0,
                    p99: 3.0,
                    p999: 4.0,
                    max: 5.0,
                }),
                started_ms: None,
                jobs_per_log_entry: Some(50.0),
                server_cpu_seconds_per_100k: None,
                client_cpu_seconds_per_100k: Some(0.5),
                server_memory_mib: None,
            }],
        };
        let table = report.table();
        let parts = [
            "synced on a majority",
            "4,000 syncs",
            "50,000",
            "1.25",
            "–",
            "2.00 s",
            "(1.00 to 3.00, 3 times)",
        ];
        for part in parts {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
        assert!(serde_json::to_string(&report).unwrap().contains("\"p999\":4.0"));
    }
}
