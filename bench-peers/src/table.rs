//! Tables that are read in a terminal as well as on a page.

/// Cells of one row.
pub type Row = Vec<String>;

/// A table of Markdown with columns of equal width; all but the first one to the right.
pub fn markdown(head: &[&str], rows: &[Row]) -> String {
    let head: Row = head.iter().map(|cell| (*cell).to_owned()).collect();
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let mut text = String::new();
    for (at, row) in all().enumerate() {
        text.push('|');
        for (column, cell) in row.iter().enumerate() {
            let fill = " ".repeat(width(column).saturating_sub(cell.chars().count()));
            match column {
                0 => text.push_str(&format!(" {cell}{fill} |")),
                _ => text.push_str(&format!(" {fill}{cell} |")),
            }
        }
        text.push('\n');
        if at == 0 {
            text.push('|');
            for column in 0..row.len() {
                let line = "-".repeat(width(column));
                text.push_str(&if column == 0 {
                    format!(" {line} |")
                } else {
                    format!(" {line}:|")
                });
            }
            text.push('\n');
        }
    }
    text
}

/// The middle one, with the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            least: *sorted.first()?,
            median: *sorted.get((sorted.len() - 1) / 2)?,
            most: *sorted.last()?,
        })
    }
}

/// `1.24 (1.10 to 1.31)`.
pub fn spread(values: Option<Spread>, digits: usize) -> String {
    match values {
        Some(values) => format!(
            "{} ({} to {})",
            number(values.median, digits),
            number(values.least, digits),
            number(values.most, digits)
        ),
        None => "–".into(),
    }
}

/// The median alone.
pub fn median(values: Option<Spread>, digits: usize) -> String {
    values.map_or_else(|| "–".into(), |values| number(values.median, digits))
}

/// With thousands apart.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(1_234_567.26, 1), "1,234,567.3");
        assert_eq!(number(999.4, 0), "999");
    }

    #[test]
    fn the_lower_middle_of_an_even_number_is_the_median() {
        let found = Spread::of([3.0, 1.0, 2.0, 9.0]).unwrap();
        assert_eq!((found.least, found.median, found.most), (1.0, 2.0, 9.0));
        assert_eq!(Spread::of([]), None);
        assert_eq!(spread(Some(found), 0), "2 (1 to 9)");
    }

    #[test]
    fn columns_are_aligned() {
        let text = markdown(&["", "a"], &[vec!["long".into(), "1".into()]]);
        assert_eq!(text, "|      |   a |\n| ---- | ---:|\n| long |   1 |\n");
    }
}
