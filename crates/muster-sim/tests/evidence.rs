//! The page of evidence is what its records say.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use muster_sim::evidence::Evidence;

fn records() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/evidence")
}

fn program(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster-sim"));
    command.arg("evidence").arg("--dir").arg(dir);
    command
}

#[test]
fn the_page_is_what_the_records_say() {
    let made = Evidence::read(&records()).expect("good records").page();
    let there = std::fs::read_to_string(records().with_extension("md")).expect("a page");
    assert!(
        there == made,
        "docs/evidence.md differs from its records; run from the root of the repository: muster-sim evidence"
    );
}

#[test]
fn a_record_is_added_only_if_it_is_one_and_the_page_follows() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let dir = folder.path().join("evidence");
    std::fs::create_dir(&dir).expect("a directory");
    std::fs::write(dir.join("bugs.toml"), "").expect("writable");
    let add = |text: &str| {
        use std::io::Write as _;
        let mut child = program(&dir)
            .arg("add")
            .stdin(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut input = child.stdin.take().expect("piped");
        input.write_all(text.as_bytes()).expect("it reads");
        drop(input);
        child.wait().expect("it ends").success()
    };
    assert!(!add("{}"));
    let record = r#"{"command":"scripts/fuzz","commit":"abc","day":"2026-11-25","seconds":5,"found":{"fuzzing":
        [{"name":"store-row","inputs":1234567,"seconds":5,"edges":99,"corpus":7,"failures":0}]}}"#;
    assert!(add(record) && add(record));

    let check = |dir: &Path| program(dir).arg("--check").status().expect("it starts").success();
    assert!(!check(&dir), "there is no page yet");
    assert!(program(&dir).status().expect("it starts").success());
    assert!(check(&dir));
    let page = std::fs::read_to_string(dir.with_extension("md")).expect("a page");
    assert!(page.contains("| store-row | 2,469,134 | 10 s | 99 | 7 | 0 |"), "{page}");
}
