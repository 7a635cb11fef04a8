//! Columns as kubectl prints them: upper-case heads, two or more spaces between, none at a line's end.

use std::io::Write;

/// Rows under a head, all of the same width.
pub(crate) struct TextTable<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> TextTable<N> {
    /// A table with only a head.
    pub(crate) fn new(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned)] }
    }

    /// One more row; an empty cell is shown as `-`.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    }

    /// Whether there is nothing under the head.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// Writes the columns, each line behind `indent`.
    pub(crate) fn write(&self, out: &mut dyn Write, indent: &str) -> std::io::Result<()> {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let mut line = indent.to_owned();
            for (cell, width) in row.iter().zip(widths) {
                line.push_str(&format!("{cell:<width$}   "));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = TextTable::new(["NAME", "AGE"]);
        assert!(table.is_empty());
        table.row(["bridge-a12".into(), "5m".into()]);
        table.row(["b".into(), String::new()]);
        let mut out = Vec::new();
        table.write(&mut out, "  ").unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "  NAME         AGE\n  bridge-a12   5m\n  b            -\n"
        );
    }
}
