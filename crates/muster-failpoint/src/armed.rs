//! Points that can be armed: by the environment at the start, or by a file that is read again and again.
//!
//! Each time an armed point acts it says so in one line on standard error, `failpoint NAME: ACTION`, before it does: who runs
//! the process counts these lines.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names the file; see [`arm`].
const FILE: &str = "MUSTER_FAILPOINTS";
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(10);
/// Of a pause: longer than a heartbeat, shorter than an election.
const PAUSE: Duration = Duration::from_millis(100);

/// Arms points as the environment says.
///
/// `FAILPOINTS` arms them for the whole life of the process, in the language of the crate `fail`:
/// `log.group.before_write=return(die);proposal.before=3*return(pause)`. `MUSTER_FAILPOINTS` names a file with one
/// `NAME=ACTIONS` a line, in force from the start and whenever it changes: points that are no longer in it are disarmed.
///
/// The actions of Muster are `return(die)`, which ends the process at once as a kill does; `return(error)`, at a point that
/// can return one; `return(pause)`, which blocks the thread for 100 ms.
pub fn arm() {
    // Points stay armed as long as the process lives.
    std::mem::forget(fail::FailScenario::setup());
    let Some(file) = std::env::var_os(FILE).map(PathBuf::from) else {
        return;
    };
    let mut known = BTreeMap::new();
    follow(&file, &mut known);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(LOOK);
            follow(&file, &mut known);
        }
    });
}

/// Brings what is armed into line with the file. One that is not there arms nothing.
fn follow(file: &Path, known: &mut BTreeMap<String, String>) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut wanted = BTreeMap::new();
    for line in lines {
        match line.split_once('=') {
            Some((name, actions)) => drop(wanted.insert(name.trim().to_owned(), actions.trim().to_owned())),
            None => say(&format!("{}: {line:?} is not NAME=ACTIONS", file.display())),
        }
    }
    if wanted == *known {
        return;
    }
    for name in known.keys().filter(|name| !wanted.contains_key(*name)) {
        fail::remove(name);
    }
    for (name, actions) in &wanted {
        if known.get(name) != Some(actions)
            && let Err(reason) = fail::cfg(name, actions)
        {
            say(&format!("{name}={actions}: {reason}"));
        }
    }
    *known = wanted;
}

/// Does what the point is armed with. True: an error is to be returned.
pub(crate) fn act(name: &'static str) -> bool {
    let Some(action) = asked(name) else { return false };
    say(&format!("{name}: {action}"));
    match action.as_str() {
        "die" => std::process::abort(),
        "pause" => std::thread::sleep(PAUSE),
        "error" => return true,
        other => panic!("failpoint {name}: {other:?} is neither die nor error nor pause"),
    }
    false
}

/// A point that returns no error was armed with one.
pub(crate) fn misused(name: &'static str) -> ! {
    panic!("failpoint {name}: no error can be returned here")
}

/// The argument of `return(…)`, if the point is armed with it. Other actions of the crate `fail` happen in here.
fn asked(name: &str) -> Option<String> {
    fail::fail_point!(name, |argument: Option<String>| Some(argument.unwrap_or_default()));
    None
}

/// One line in one write, so that it stays whole beside what other threads say.
fn say(what: &str) {
    // Nobody reads it any more if it cannot be written.
    let _ = std::io::stderr().write_all(format!("failpoint {what}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Injected, failpoint, injected};

    #[test]
    fn a_file_arms_and_disarms() {
        let file = std::env::temp_dir().join(format!("muster-failpoint-test-{}", std::process::id()));
        let mut known = BTreeMap::new();
        let mut read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            follow(&file, &mut known);
        };
        read("test.one=return(error)\n\ntest.two=2*return(error)\n");
        assert_eq!(injected("test.one"), Some(Injected("test.one")));
        assert_eq!([(); 3].map(|()| injected("test.two").is_some()), [true, true, false]);
        assert_eq!(injected("test.three"), None);
        read("test.three=return(pause)\n");
        assert_eq!(injected("test.one"), None);
        let begun = std::time::Instant::now();
        failpoint!("test.three");
        assert!(begun.elapsed() >= PAUSE);
        std::fs::remove_file(&file).unwrap();
        follow(&file, &mut known);
        assert!(known.is_empty());
    }

    #[test]
    fn an_error_leaves_the_function_around_the_point() {
        fn fails() -> std::io::Result<()> {
            failpoint!("test.fails", std::io::Error::from);
            Ok(())
        }
        fail::cfg("test.fails", "return(error)").unwrap();
        assert_eq!(
            fails().unwrap_err().to_string(),
            "failpoint test.fails: an error that a test asked for"
        );
    }
}
