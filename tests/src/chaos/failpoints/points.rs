//! Which failpoints there are, by the source code.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A failpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// The file it is in, from the root of the repository.
    pub file: String,
    /// It can return an error.
    pub fails: bool,
}

/// Before and behind the list in `docs/failpoints.md`.
const MARKS: [&str; 2] = ["<!-- made by scripts/failpoints --write-list -->\n", "<!-- end -->\n"];

/// The root of the repository that this program was built from.
pub fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// All points of all crates, by name. One that is there twice comes twice.
pub fn points() -> Vec<Point> {
    let root = repository();
    let mut files = Vec::new();
    for crate_dir in entries(&root.join("crates")) {
        // Its own documentation and tests have examples.
        if !crate_dir.ends_with("muster-failpoint") {
            sources(&crate_dir.join("src"), &mut files);
        }
    }
    let mut points = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        points.extend(found(&text).map(|(point, fails)| Point {
            name: point.to_owned(),
            file: name.clone(),
            fails,
        }));
    }
    points.sort();
    points
}

/// Names of points in a source text, and whether they can return an error.
fn found(text: &str) -> impl Iterator<Item = (&str, bool)> {
    text.split("failpoint!(").skip(1).filter_map(|call| {
        let (name, rest) = call.trim_start().strip_prefix('"')?.split_once('"')?;
        Some((name, rest.trim_start().starts_with(',')))
    })
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.sort();
    found
}

fn sources(dir: &Path, files: &mut Vec<PathBuf>) {
    for path in entries(dir) {
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The list as the documentation has it.
pub fn list(points: &[Point]) -> String {
    let mut list = "| Point | In | Can |\n|---|---|---|\n".to_owned();
    for point in points {
        let can = if point.fails { "die, pause, fail" } else { "die, pause" };
        let _ = writeln!(list, "| `{}` | `{}` | {can} |", point.name, point.file);
    }
    list
}

/// A page with its list made anew. `None`: it has no place for one.
pub fn with_list(page: &str, points: &[Point]) -> Option<String> {
    let [begin, end] = MARKS;
    let (head, rest) = page.split_once(begin)?;
    let (_, tail) = rest.split_once(end)?;
    Some(format!("{head}{begin}{}{end}{tail}", list(points)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_found_however_the_call_is_written() {
        let text = "failpoint!(\"a.b.c\");\n x(|| failpoint!(\n    \"d.e.f\",\n    Error::from\n)); \"g\" failpoint!(\"h.i\", |e| f(e));";
        let found: Vec<_> = found(text).collect();
        assert_eq!(found, [("a.b.c", false), ("d.e.f", true), ("h.i", true)]);
    }

    #[test]
    fn a_list_replaces_the_one_before() {
        let points = [Point {
            name: "a.b.c".into(),
            file: "crates/x/src/y.rs".into(),
            fails: true,
        }];
        let page = format!("head\n{}old\n{}tail\n", MARKS[0], MARKS[1]);
        let made = with_list(&page, &points).expect("a place for the list");
        assert!(made.starts_with("head\n") && made.ends_with("tail\n") && !made.contains("old"));
        assert!(made.contains("| `a.b.c` | `crates/x/src/y.rs` | die, pause, fail |"));
        assert_eq!(with_list(&made, &points), Some(made.clone()), "the same again");
        assert_eq!(with_list("no place", &points), None);
    }
}
