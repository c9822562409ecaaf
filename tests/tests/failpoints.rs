//! The list of failpoints: names, and what the documentation says of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use muster_tests::chaos::failpoints::{points, repository, with_list};

/// Fewer would mean that something is not found any more.
const LEAST: usize = 150;

#[test]
fn names_are_well_formed_and_there_once() {
    let points = points();
    assert!(points.len() >= LEAST, "{} points", points.len());
    for pair in points.windows(2) {
        let [one, other] = pair else {
            unreachable!("windows of two")
        };
        assert_ne!(one.name, other.name, "in {} and {}", one.file, other.file);
    }
    let word = |word: &str| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    for point in &points {
        let parts: Vec<_> = point.name.split('.').collect();
        assert!(
            parts.len() == 3 && parts.iter().all(|part| word(part)),
            "{} in {} is not area.step.when",
            point.name,
            point.file
        );
    }
}

#[test]
fn the_documentation_lists_what_is_in_the_source() {
    let page = std::fs::read_to_string(repository().join("docs/failpoints.md")).unwrap();
    let made = with_list(&page, &points()).expect("a place for the list");
    assert!(
        page == made,
        "docs/failpoints.md is not up to date; run: scripts/failpoints --write-list"
    );
}
