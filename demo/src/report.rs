//! The table at the end.

use std::fmt;

/// One line of the table.
#[derive(Debug)]
struct Line {
    what: String,
    value: String,
    /// What was expected, when something was.
    expected: String,
    /// `None`: only told, not judged.
    good: Option<bool>,
}

/// Facts and verdicts.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// A fact that is not judged.
    pub fn tell(&mut self, what: impl Into<String>, value: impl Into<String>, remark: impl Into<String>) {
        self.lines.push(Line {
            what: what.into(),
            value: value.into(),
            expected: remark.into(),
            good: None,
        });
    }

    /// A fact with what it must be.
    pub fn judge(
        &mut self,
        what: impl Into<String>,
        value: impl Into<String>,
        expected: impl Into<String>,
        good: bool,
    ) {
        self.lines.push(Line {
            what: what.into(),
            value: value.into(),
            expected: expected.into(),
            good: Some(good),
        });
    }

    /// True when every verdict is good.
    pub fn is_good(&self) -> bool {
        self.lines.iter().all(|line| line.good != Some(false))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Line) -> &str| {
            self.lines
                .iter()
                .map(|line| of(line).chars().count())
                .max()
                .unwrap_or(0)
        };
        let (what, value) = (width(|line| &line.what), width(|line| &line.value));
        for line in &self.lines {
            let verdict = match line.good {
                Some(true) => "ok  ",
                Some(false) => "FAIL",
                None => "    ",
            };
            let text = format!(
                "  {verdict}  {:<what$}  {:>value$}  {}",
                line.what, line.value, line.expected
            );
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_verdict_spoils_all() {
        let mut report = Report::default();
        report.tell("files", "12", "");
        report.judge("lost", "0", "must be 0", true);
        assert!(report.is_good());
        report.judge("wrong results", "1", "must be 0", false);
        assert!(!report.is_good());
        assert_eq!(
            report.to_string(),
            "        files          12\n  ok    lost            0  must be 0\n  FAIL  wrong results   1  must be 0\n"
        );
    }
}
