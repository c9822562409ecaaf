//! Named places at which a test can have a process die, fail or pause: `docs/failpoints.md`.
//!
//! Without the feature `failpoints` no place can be armed, every question after one is a constant, and nothing of it is
//! in the program. With it, a point looks whether it is armed each time it is passed.

#[cfg(feature = "failpoints")]
mod armed;

use std::fmt;

#[cfg(feature = "failpoints")]
pub use crate::armed::arm;

/// The error of a point that was armed with `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injected(
    /// Name of the point.
    pub &'static str,
);

impl Injected {
    /// What it says, where errors are texts.
    pub fn into_text(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failpoint {}: an error that a test asked for", self.0)
    }
}

impl std::error::Error for Injected {}

impl From<Injected> for std::io::Error {
    fn from(injected: Injected) -> Self {
        Self::other(injected)
    }
}

/// A place that a test can arm. Names are unique, `area.step.when`, as in `log.group.before_write`.
///
/// `failpoint!("name")` can die or pause. `failpoint!("name", E::from)` can also return the error that the second argument
/// makes of an [`Injected`]: from the function, closure or async block around it, as `?` does.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::pass($name)
    };
    ($name:literal, $error:expr) => {
        if let Some(injected) = $crate::injected($name) {
            return Err($error(injected));
        }
    };
}

/// Passes a point that returns no error; see [`failpoint!`].
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn pass(_name: &'static str) {}

/// Passes a point that can return an error: the one to return, if it is armed with it; see [`failpoint!`].
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn injected(_name: &'static str) -> Option<Injected> {
    None
}

/// Passes a point that returns no error; see [`failpoint!`].
#[cfg(feature = "failpoints")]
pub fn pass(name: &'static str) {
    if armed::act(name) {
        armed::misused(name);
    }
}

/// Passes a point that can return an error: the one to return, if it is armed with it; see [`failpoint!`].
#[cfg(feature = "failpoints")]
pub fn injected(name: &'static str) -> Option<Injected> {
    armed::act(name).then_some(Injected(name))
}

#[cfg(all(test, not(feature = "failpoints")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_nothing_happens() {
        fn passes() -> std::io::Result<u32> {
            failpoint!("test.here");
            failpoint!("test.there", std::io::Error::from);
            Ok(7)
        }
        assert_eq!(passes().ok(), Some(7));
        const { assert!(injected("test.constant").is_none()) };
    }

    #[test]
    fn an_error_names_its_point() {
        let error = std::io::Error::from(Injected("log.group.before_write"));
        assert_eq!(
            error.to_string(),
            "failpoint log.group.before_write: an error that a test asked for"
        );
    }
}
