//! Tables for people: columns as wide as they need to be.

use std::fmt::Write as _;

/// Wider cells are cut.
const CELL_CHARS_MAX: usize = 48;

/// Lines of a table with a head; nothing stands behind the last cell of a line.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cut = |cell: &str| {
        let one_line = cell.replace('\n', " ");
        if one_line.chars().count() <= CELL_CHARS_MAX { one_line } else { one_line.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect() }
    };
    let rows: Vec<Vec<String>> =
        std::iter::once(head.iter().map(|h| (*h).to_string()).collect()).chain(rows.iter().map(|row| row.iter().map(|c| cut(c)).collect())).collect();
    let widths: Vec<usize> = (0..head.len()).map(|c| rows.iter().map(|row: &Vec<String>| row[c].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
