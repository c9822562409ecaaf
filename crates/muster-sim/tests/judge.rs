//! The judge as a program: its exit status and what it says.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::{Command, Output};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_muster-sim"))
}

fn judge(history: &Path) -> Output {
    program().arg("judge").arg(history).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_status_tells_good_from_bad_from_malformed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let made = program()
        .args(["generate", "--calls", "1000"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    let good = judge(&path);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stdout));

    let history = std::fs::read_to_string(&path).unwrap();
    let without_a_job = history
        .lines()
        .filter(|line| !line.contains(r#"{"job":{"job":"00000000-0000-0007"#));
    let lines: Vec<&str> = without_a_job.collect();
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let bad = judge(&path);
    assert_eq!(bad.status.code(), Some(1));
    assert!(
        text(&bad.stdout).contains("was acknowledged and is not in the last scan"),
        "{}",
        text(&bad.stdout)
    );

    std::fs::write(&path, history.replacen("\"started\"", "\"begun\"", 1)).unwrap();
    let malformed = judge(&path);
    assert_eq!(malformed.status.code(), Some(2));
    assert!(
        text(&malformed.stderr).contains("line 4: unknown variant"),
        "{}",
        text(&malformed.stderr)
    );
}

#[test]
fn a_demand_that_is_not_met_is_a_violation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    program()
        .args(["generate", "--calls", "1000"])
        .arg(&path)
        .status()
        .unwrap();
    for (demand, expected) in [
        ("enqueue=500", 0),
        ("enqueue=501", 1),
        ("redrive=1", 1),
        ("juggle=1", 2),
    ] {
        let status = program()
            .arg("judge")
            .arg(&path)
            .args(["--least", demand])
            .output()
            .unwrap()
            .status;
        assert_eq!(status.code(), Some(expected), "{demand}");
    }
}
