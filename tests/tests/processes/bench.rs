//! `muster bench` as operators call it: with a cluster of its own, and a report.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use muster_tests::muster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_tells_what_a_quiet_tenant_waits_beside_a_busy_one() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("report");
    let line = [
        "bench",
        "--spawn",
        "--seconds",
        "1",
        "--json",
        "neighbour",
        "--report",
        folder.to_str().unwrap(),
    ];
    let printed = muster(&line, &[]).await.good().json();
    let saved = std::fs::read_to_string(folder.join("report.json")).unwrap();
    assert_eq!(printed, serde_json::from_str::<serde_json::Value>(&saved).unwrap());
    let rows = printed["figures"].as_array().unwrap();
    let names: Vec<_> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap().split(" (").next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "quiet tenant, 50/s, alone",
            "beside 10 times as much",
            "beside 100 times as much",
            "beside 1000 times as much"
        ]
    );
    for row in rows {
        assert_eq!(row["errors"], 0, "{row}");
        assert!(row["jobs"].as_u64().unwrap() >= 40, "{row}");
        let (acknowledged, started) = (&row["acknowledged_ms"]["p50"], &row["started_ms"]["p50"]);
        assert!(
            acknowledged.as_f64().unwrap() > 0.0 && started.as_f64().unwrap() > 0.0,
            "{row}"
        );
    }
    for (file, lines) in [("acknowledged.svg", 4), ("started.svg", 4)] {
        let svg = std::fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(svg.matches("<polyline").count(), lines, "{file}");
    }
    assert!(folder.join("report.txt").exists());
}
