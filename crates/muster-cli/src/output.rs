//! Where results go: a table fitted to the terminal, plain when piped, or JSON.

use std::io::{IsTerminal, Write};

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use muster_client::Stale;
use serde_json::Value;

use crate::args::Format;
use crate::{json, table};

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) format: Format,
    /// Standard output is a terminal: bold headings, cells wrapped to its width.
    terminal: bool,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// Prints `value` to scripts, `rows` under `headings` to people.
    pub(crate) fn rows(self, value: Value, headings: &[&str], rows: Vec<Vec<String>>) {
        match self.format {
            Format::Json => self.json(&value),
            Format::Table => line(&plain(headings, rows, self.terminal)),
        }
    }

    /// Prints `value` to scripts, `text` to people.
    pub(crate) fn text(self, value: Value, text: &str) {
        match self.format {
            Format::Json => self.json(&value),
            Format::Table => line(text),
        }
    }

    /// The same of an answer that may be stale.
    pub(crate) fn rows_of<T>(self, value: Value, headings: &[&str], rows: Vec<Vec<String>>, stale: Option<&Stale<T>>) {
        match stale {
            None => self.rows(value, headings, rows),
            Some(stale) => {
                self.rows(json::stale(value, stale), headings, rows);
                self.remark(&table::stale(stale));
            }
        }
    }

    /// Like [`Output::text`], of a stale answer.
    pub(crate) fn stale_text<T>(self, value: Value, text: &str, stale: &Stale<T>) {
        self.text(json::stale(value, stale), text);
        self.remark(&table::stale(stale));
    }

    /// A remark for people, on standard error.
    pub(crate) fn remark(self, text: &str) {
        if self.format == Format::Table {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// Indented on a terminal, on one line when piped.
    fn json(self, value: &Value) {
        line(&if self.terminal {
            format!("{value:#}")
        } else {
            value.to_string()
        });
    }
}

/// A reader that went away (`muster job list | head`) is no error.
fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn plain(headings: &[&str], rows: Vec<Vec<String>>, terminal: bool) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    if terminal {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(
            headings
                .iter()
                .map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)),
        );
    } else {
        table.force_no_tty();
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings);
    }
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piped_table_is_plain() {
        let rows = vec![
            vec!["mail".to_owned(), "3".to_owned()],
            vec!["a-longer-name".to_owned(), "12".to_owned()],
        ];
        assert_eq!(
            plain(&["QUEUE", "RUNNING"], rows, false),
            "QUEUE          RUNNING\nmail           3\na-longer-name  12"
        );
    }
}
