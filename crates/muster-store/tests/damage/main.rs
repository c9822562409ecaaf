//! Damage to every kind of file of a data directory: what is read back is right, or the damage is found.
//!
//! A sample runs with the other tests. The whole, with totals:
//!
//! ```text
//! MUSTER_DAMAGE_ROUNDS=20 cargo nextest run --release -p muster-store --test damage --run-ignored only --no-capture
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a test")]

mod content;
mod images;
mod judge;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use content::Content;
use images::Damage;
use judge::{Verdict, judge};
use muster_store::Store;
use tempfile::TempDir;

/// Directories to damage, in memory if the system has a place for that: nothing here tests a disk.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    tempfile::Builder::new()
        .prefix("muster-damage-")
        .tempdir_in(place)
        .unwrap()
}

struct Bench {
    dir: TempDir,
    content: Content,
    older: PathBuf,
    whole: PathBuf,
}

impl Bench {
    fn new(scale: u64) -> Self {
        let dir = scratch();
        let (whole, older) = (dir.path().join("whole"), dir.path().join("older"));
        std::fs::create_dir(&whole).unwrap();
        let content = content::build(&whole, &older, scale);
        Self {
            dir,
            content,
            older,
            whole,
        }
    }

    fn run(&self, damage: &Damage) -> Verdict {
        let image = self.dir.path().join("image");
        images::copy(&self.whole, &image);
        damage.apply(&image, &self.older);
        let verdict = judge(&image, &self.content);
        std::fs::remove_dir_all(&image).unwrap();
        verdict
    }
}

#[derive(Default)]
struct Totals(BTreeMap<(String, &'static str), BTreeMap<&'static str, u64>>);

impl Totals {
    fn add(&mut self, damage: &Damage, verdict: &Verdict) {
        let name = match verdict {
            Verdict::Harmless => "harmless",
            Verdict::FoundOnOpen => "on open",
            Verdict::FoundOnRead => "on read",
            Verdict::Replaced => "replaced",
            Verdict::Wrong(_) => "WRONG",
        };
        let row = self.0.entry((damage.file_kind(), damage.kind())).or_default();
        *row.entry(name).or_default() += 1;
    }

    fn print(&self) {
        let columns = ["harmless", "on open", "on read", "replaced", "WRONG"];
        println!(
            "{:<28}{:<18}{}",
            "file",
            "damage",
            columns.map(|column| format!("{column:>10}")).concat()
        );
        let mut sums = BTreeMap::new();
        for ((file, kind), row) in &self.0 {
            let cells = columns.map(|column| {
                let count = row.get(column).copied().unwrap_or(0);
                *sums.entry(column).or_insert(0) += count;
                format!("{count:>10}")
            });
            println!("{file:<28}{kind:<18}{}", cells.concat());
        }
        let cells = columns.map(|column| format!("{:>10}", sums.get(column).unwrap_or(&0)));
        println!("{:<46}{}", "all", cells.concat());
    }
}

/// Both marks are needed to lose the votes, so the damage of one file never does.
fn check(damage: &Damage, verdict: &Verdict, wrong: &mut Vec<String>) {
    match verdict {
        Verdict::Wrong(text) => wrong.push(format!("{damage:?}: {text}")),
        Verdict::Replaced => wrong.push(format!("{damage:?}: the votes are not lost by it")),
        _ => {}
    }
}

#[test]
fn an_undamaged_directory_is_read_back_as_it_was_written() {
    let bench = Bench::new(8);
    assert_eq!(judge(&bench.whole, &bench.content), Verdict::Harmless);
    // Opening and closing it changes nothing.
    assert_eq!(judge(&bench.whole, &bench.content), Verdict::Harmless);
    assert!(bench.content.purged > 0 && bench.content.states.len() > 3 && bench.content.ended.len() > 100);
}

#[test]
fn damage_of_any_file_is_found_or_harmless() {
    let bench = Bench::new(8);
    let damages = images::all(&bench.whole, rand::random());
    // The same time on any machine; what is left out is drawn anew each time.
    let (begun, limit) = (Instant::now(), Duration::from_secs(20));
    let mut wrong = Vec::new();
    let mut totals = Totals::default();
    let mut found = 0;
    let mut done = 0;
    for damage in &damages {
        let verdict = bench.run(damage);
        totals.add(damage, &verdict);
        check(damage, &verdict, &mut wrong);
        found += u64::from(verdict != Verdict::Harmless);
        done += 1;
        if begun.elapsed() > limit {
            break;
        }
    }
    totals.print();
    println!("{done} of {} damages, {found} found", damages.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Much is harmless: one of two marks, files that nobody reads.
    assert!(found * 8 > done, "much damage must be found: {found} of {done}");
}

/// `muster fsck` on a stopped node.
#[test]
fn an_inspection_finds_what_a_node_would_find_and_changes_nothing() {
    let bench = Bench::new(8);
    let whole = muster_store::inspect(&bench.whole, &mut |_| {}).unwrap();
    assert!(whole.is_whole(), "{:?}", whole.findings);
    let content = &bench.content;
    assert_eq!(whole.identity.map(|identity| identity.node), Some(2));
    assert_eq!(whole.log.entries, content.entries.len() as u64 - content.purged - 1);
    assert_eq!(whole.log.last, content.entries.last().map(|entry| entry.position));
    let applied = *content.states.last_key_value().unwrap().0;
    assert_eq!(whole.applied.map(|applied| applied.index), Some(applied));
    let ended = content.ended.iter().filter(|row| row.changed_index <= applied).count() as u64;
    assert_eq!((whole.state.ended_jobs, whole.state.ids), (ended, ended));

    let (begun, limit) = (Instant::now(), Duration::from_secs(20));
    let mut missed = Vec::new();
    let mut found = 0;
    for damage in images::all(&bench.whole, rand::random()) {
        let image = bench.dir.path().join("inspected");
        images::copy(&bench.whole, &image);
        damage.apply(&image, &bench.older);
        let before = images::contents(&image);
        let inspected = muster_store::inspect(&image, &mut |_| {});
        assert!(
            before == images::contents(&image),
            "{damage:?}: the inspection changed a file"
        );
        let verdict = judge(&image, &bench.content);
        if !matches!(verdict, Verdict::Harmless) {
            found += 1;
            if inspected.is_ok_and(|inspected| inspected.is_whole()) {
                missed.push(format!("{damage:?}: {verdict:?}"));
            }
        }
        std::fs::remove_dir_all(&image).unwrap();
        if begun.elapsed() > limit {
            break;
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    assert!(found > 10, "{found}");
}

#[test]
fn parts_of_an_older_copy_are_found_or_harmless() {
    let bench = Bench::new(8);
    let state = "state-1";
    let cases: [(&[&'static str], Verdict); 8] = [
        (&["log"], Verdict::FoundOnOpen),
        (&["log", state], Verdict::FoundOnOpen),
        (&["log", "mark-b"], Verdict::FoundOnOpen),
        (&["mark-a"], Verdict::Harmless),
        (&["mark-b"], Verdict::Harmless),
        (&["identity.json"], Verdict::Harmless),
        // It ends below the log's beginning.
        (&[state], Verdict::FoundOnOpen),
        (&["state.current"], Verdict::Harmless),
    ];
    for (what, expected) in cases {
        let damage = Damage::RollBack { what: what.to_vec() };
        assert_eq!(bench.run(&damage), expected, "{what:?}");
    }
}

/// The sender does not know of the damage: its parts have the right checksums.
#[test]
fn a_snapshot_of_damaged_data_is_not_taken() {
    let bench = Bench::new(24);
    let open = |dir: &Path| Store::open(content::options(dir)).unwrap();
    let pack = |dir: &Path| {
        let store = open(dir);
        let mut bytes = Vec::new();
        store.state().pin_snapshot().unwrap().pack(&mut bytes).unwrap();
        bytes
    };
    let receiver = bench.dir.path().join("receiver");
    let prepare = |bytes: &[u8]| {
        let store = open(&receiver);
        let path = store.state().receiving_path(1, 7).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let prepared = store.state().prepare_snapshot(&path);
        assert_eq!(prepared.is_err(), !path.exists(), "a bad one is removed");
        prepared.map(|_| store.state().install_snapshot(&path).unwrap())
    };
    let whole = bench.dir.path().join("image");
    images::copy(&bench.whole, &whole);
    assert!(prepare(&pack(&whole)).is_ok());
    let tables: Vec<_> = images::files(&whole)
        .into_iter()
        .filter(|(file, _)| images::file_kind(file) == "state: tables")
        .collect();
    assert!(tables.len() > 4);
    let mut found = 0;
    for (file, length) in &tables {
        let at = rand::random_range(0..*length);
        let damage = Damage::Flip {
            file: file.clone(),
            at,
            bit: 3,
        };
        let image = bench.dir.path().join("damaged");
        images::copy(&whole, &image);
        damage.apply(&image, &bench.older);
        // What is found before it is sent is another matter.
        if let Ok(store) = Store::open(content::options(&image)) {
            let mut bytes = Vec::new();
            if let Ok(pinned) = store.state().pin_snapshot() {
                pinned.pack(&mut bytes).unwrap();
                match prepare(&bytes) {
                    Ok(_) => assert_eq!(
                        store.state().verify().map(drop).map_err(|error| error.to_string()),
                        Ok(()),
                        "{damage:?}"
                    ),
                    Err(error) => {
                        assert!(error.is_damage(), "{error}");
                        found += 1;
                    }
                }
            }
        }
        std::fs::remove_dir_all(&image).unwrap();
    }
    assert!(found > 0, "none of {} damaged tables was sent", tables.len());
}

#[test]
#[ignore = "takes long; see above"]
fn campaign() {
    let rounds = std::env::var("MUSTER_DAMAGE_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let mut totals = Totals::default();
    let mut wrong = Vec::new();
    let mut done = 0_u64;
    let begun = Instant::now();
    for round in 0..rounds.unwrap_or(1) {
        let bench = Bench::new([8, 24, 60][round % 3]);
        for damage in images::all(&bench.whole, rand::random()) {
            let verdict = bench.run(&damage);
            totals.add(&damage, &verdict);
            check(&damage, &verdict, &mut wrong);
            done += 1;
        }
        println!(
            "round {}: {done} damages in {:.0} s, {} wrong",
            round + 1,
            begun.elapsed().as_secs_f64(),
            wrong.len()
        );
    }
    totals.print();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
