//! A short run of the chaos program, with the same faults in the same order every time.

use std::time::Duration;

use muster_tests::chaos::{Fault, Options, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_on_three_nodes_break_no_promise() {
    let faults = vec![Fault::Kill, Fault::Pause, Fault::Partition, Fault::Delay];
    let report = run(&Options {
        time: Duration::from_secs(25),
        nodes: 3,
        seed: 7,
        faults: faults.clone(),
        rate: 200,
        keep: None,
        progress: false,
        failpoints: false,
    })
    .await;
    assert!(
        report.is_good(),
        "{report}\nkept in {}",
        report.kept.as_deref().unwrap_or("nowhere".as_ref()).display()
    );
    for fault in faults {
        let count = report.faults.get(&fault).copied().unwrap_or_default();
        assert!(count.took_effect > 0, "{fault} never took effect:\n{report}");
    }
}
