//! A report as files: what is printed, the same for programs, and plots.

use std::path::Path;

use anyhow::{Context, Result};

use crate::measure::Quantiles;
use crate::plot::{Plot, Scale};
use crate::report::{Figures, Report};

impl Report {
    /// Writes `report.txt`, `report.json` and plots into a folder, which is made when there is none.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let write = |file: &str, text: String| {
            let path = folder.join(file);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        write("report.txt", self.table())?;
        write("report.json", serde_json::to_string_pretty(self)?)?;
        for plot in self.plots.iter().chain(&self.latencies()) {
            write(plot.file, plot.svg())?;
        }
        Ok(())
    }

    /// Quantiles of what was measured, one plot for acknowledgements and one for starts.
    fn latencies(&self) -> Vec<Plot> {
        let plot = |file, title: &str, pick: fn(&Figures) -> Option<Quantiles>| {
            let series: Vec<_> = (self.figures.iter())
                .filter_map(|figures| {
                    let quantiles = pick(figures)?;
                    let points = vec![
                        (0.5, quantiles.p50),
                        (0.9, quantiles.p90),
                        (0.99, quantiles.p99),
                        (0.999, quantiles.p999),
                    ];
                    Some((figures.name.clone(), points))
                })
                .collect();
            (!series.is_empty()).then(|| Plot {
                file,
                title: title.to_owned(),
                x: Scale::Nines,
                y: Scale::Log("ms"),
                series,
            })
        };
        [
            plot("acknowledged.svg", "From enqueue to acknowledgement", |figures| {
                figures.acknowledged_ms
            }),
            plot("started.svg", "From enqueue to start", |figures| figures.started_ms),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gets_table_json_and_the_plots_there_is_something_for() {
        let figures = |name: &str, acknowledged_ms| Figures {
            name: name.into(),
            jobs: 1,
            seconds: 1.0,
            rate: 1.0,
            errors: 0,
            acknowledged_ms,
            started_ms: None,
            jobs_per_log_entry: None,
            server_cpu_seconds_per_100k: None,
            client_cpu_seconds_per_100k: None,
            server_memory_mib: None,
        };
        let quantiles = Quantiles {
            p50: 1.0,
            p90: 2.0,
            p99: 3.0,
            p999: 4.0,
            max: 5.0,
        };
        let report = Report {
            version: "0.1.0".into(),
            nodes: 3,
            durability: "synced on a majority".into(),
            disk_syncs_per_second: 4_000.0,
            disk_probe_dir: "/tmp".into(),
            payload_bytes: 256,
            processors: 2,
            load_average: [0.0, 1.5],
            queued_jobs: None,
            figures: vec![figures("enqueue", Some(quantiles)), figures("drain", None)],
            operations: Vec::new(),
            plots: Vec::new(),
        };
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new");
        report.save(&folder).unwrap();
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(
            files,
            ["acknowledged.svg", "report.json", "report.txt"],
            "nothing was started"
        );
        let svg = std::fs::read_to_string(folder.join("acknowledged.svg")).unwrap();
        assert_eq!(svg.matches("<polyline").count(), 1, "drain has no calls");
    }
}
