//! The layers of ARCHITECTURE.md as a test: an edge between our crates that the table does not have fails here.
//!
//! A new edge comes with an architecture decision record and a line in the table.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crate, and what it may use of ours.
const LAYERS: &[(&str, &[&str])] = &[
    ("muster-core", &[]),
    ("muster-failpoint", &[]),
    ("muster-proto", &[]),
    ("muster-store", &["muster-core", "muster-failpoint", "muster-proto"]),
    (
        "muster-raft",
        &["muster-core", "muster-failpoint", "muster-store", "muster-proto"],
    ),
    (
        "muster-backup",
        &["muster-core", "muster-failpoint", "muster-raft", "muster-store"],
    ),
    (
        "muster-node",
        &["muster-core", "muster-failpoint", "muster-raft", "muster-store"],
    ),
    (
        "muster-api",
        &[
            "muster-backup",
            "muster-core",
            "muster-node",
            "muster-raft",
            "muster-proto",
            "muster-store",
        ],
    ),
    ("muster-client", &["muster-proto"]),
    (
        "muster-cli",
        &["muster-backup", "muster-client", "muster-server", "muster-store"],
    ),
    ("muster-bench", &["muster-client"]),
    (
        "muster-server",
        &[
            "muster-api",
            "muster-backup",
            "muster-node",
            "muster-raft",
            "muster-store",
            "muster-core",
            "muster-record",
        ],
    ),
    ("muster-record", &["muster-core"]),
    ("muster-sim", &["muster-core", "muster-record"]),
    ("muster-demo", &["muster-client"]),
    (
        "muster",
        &[
            "muster-server",
            "muster-cli",
            "muster-bench",
            "muster-client",
            "muster-failpoint",
        ],
    ),
];

/// Stands above all; nothing uses it, and it may use anything.
const TESTS: &str = "muster-tests";

/// Crates of others, and the only one of ours that knows each.
const FENCES: &[(&str, &str)] = &[
    ("rocksdb", "muster-store"),
    ("bincode", "muster-store"),
    ("openraft", "muster-raft"),
    ("ractor", "muster-node"),
    ("object_store", "muster-backup"),
    ("fail", "muster-failpoint"),
];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: String,
    to: String,
    /// Used by tests and examples of `from` alone.
    dev: bool,
}

fn edge(from: &str, to: &str) -> Edge {
    Edge {
        from: from.into(),
        to: to.into(),
        dev: false,
    }
}

/// What is wrong with a graph of crates; empty when all is well.
fn faults(packages: &BTreeSet<String>, edges: &[Edge]) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut faults = Vec::new();
    for package in packages {
        if package != TESTS && !table.contains_key(package.as_str()) {
            faults.push(format!("{package} is not in the layer table"));
        }
    }
    for Edge { from, to, dev } in edges {
        if let Some((_, owner)) = FENCES.iter().find(|(name, _)| name == to)
            && from != owner
            && from != TESTS
        {
            faults.push(format!("{from} depends on {to}, which only {owner} may know"));
        }
        if !packages.contains(to) || from == TESTS {
            continue;
        }
        let allowed = if *dev {
            below(&table, from).contains(to.as_str())
        } else {
            table.get(from.as_str()).is_some_and(|uses| uses.contains(&to.as_str()))
        };
        if !allowed {
            faults.push(format!("{from} depends on {to}, which is not in the layer table"));
        }
    }
    faults
}

/// All crates under one: what its tests may use.
fn below<'a>(table: &BTreeMap<&'a str, &'a [&'a str]>, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = table.get(from).map(|uses| uses.to_vec()).unwrap_or_default();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(table.get(next).copied().unwrap_or_default());
        }
    }
    found
}

/// Packages of the workspace and all their direct dependencies, as cargo sees them.
fn workspace() -> (BTreeSet<String>, Vec<Edge>) {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
            "--manifest-path",
            manifest,
        ])
        .output()
        .expect("cargo metadata starts");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a name").to_owned();
    let mut packages = BTreeSet::new();
    let mut edges = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let from = text(&package["name"]);
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            edges.push(Edge {
                from: from.clone(),
                to: text(&dependency["name"]),
                dev: dependency["kind"] == "dev",
            });
        }
        packages.insert(from);
    }
    (packages, edges)
}

#[test]
fn our_crates_depend_on_each_other_as_the_layer_table_says() {
    let (packages, edges) = workspace();
    for (name, _) in LAYERS {
        assert!(
            packages.contains(*name),
            "{name} is in the layer table but not in the workspace"
        );
    }
    let faults = faults(&packages, &edges);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_core_knows_nothing_that_does_input_or_output() {
    let (_, edges) = workspace();
    let allowed = ["bytes", "serde", "thiserror", "uuid", "xxhash-rust"];
    let strangers: Vec<_> = edges
        .iter()
        .filter(|edge| edge.from == "muster-core" && !edge.dev && !allowed.contains(&edge.to.as_str()))
        .collect();
    assert!(strangers.is_empty(), "muster-core depends on {strangers:?}");
}

#[test]
fn a_bad_graph_is_refused() {
    let packages: BTreeSet<String> = LAYERS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .chain([TESTS.into()])
        .collect();
    let refused = |edge: Edge| !faults(&packages, &[edge]).is_empty();

    assert!(refused(edge("muster-core", "muster-store")), "upwards");
    assert!(
        refused(edge("muster-client", "muster-core")),
        "past the public interface"
    );
    assert!(refused(edge("muster-cli", "muster-raft")), "past the public interface");
    assert!(refused(edge("muster-node", "muster-tests")), "on the tests");
    assert!(refused(edge("muster-raft", "rocksdb")), "past the fence of RocksDB");
    assert!(refused(edge("muster-api", "bincode")), "past the fence of the codec");
    assert!(refused(edge("muster-node", "openraft")), "past the fence of openraft");
    assert!(refused(edge("muster-server", "ractor")), "past the fence of ractor");
    assert!(refused(edge("muster-store", "fail")), "past the fence of failpoints");
    let dev = |from, to| Edge {
        dev: true,
        ..edge(from, to)
    };
    assert!(refused(dev("muster-client", "muster-server")), "tests that look up");
    assert!(!refused(dev("muster-api", "muster-store")), "tests may look down");
    assert!(!refused(edge("muster-tests", "muster-core")));
    assert!(!refused(edge("muster-store", "rocksdb")));

    let stranger = packages.iter().cloned().chain(["muster-types".into()]).collect();
    assert!(!faults(&stranger, &[]).is_empty(), "a crate without a layer");
}
