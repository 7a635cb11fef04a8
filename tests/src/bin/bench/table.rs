//! The results, as a Markdown table with the machine in its heading.

use std::io::Write as _;

use anyhow::Context as _;

/// Rows so far.
pub(crate) struct Table {
    heading: String,
    rows: Vec<(String, String)>,
    grids: Vec<Grid>,
}

/// A table of its own below the others.
pub(crate) struct Grid {
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) -> anyhow::Result<()> {
        say(&cells.join(", "))?;
        self.rows.push(cells);
        Ok(())
    }

    fn markdown(&self) -> String {
        let line = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut lines: Vec<_> = self.rows.iter().map(line).collect();
        let rule = vec!["---".to_owned(); self.rows[0].len()];
        lines.insert(1, line(&rule));
        format!("\n{}", lines.concat())
    }
}

impl Table {
    pub(crate) fn new(profile: &str) -> Self {
        Self { heading: format!("{}; build: {profile}", machine()), rows: Vec::new(), grids: Vec::new() }
    }

    pub(crate) fn row(&mut self, measure: &str, result: String) -> anyhow::Result<()> {
        say(&format!("{measure}: {result}"))?;
        self.rows.push((measure.to_owned(), result));
        Ok(())
    }

    pub(crate) fn grid(&mut self, grid: Grid) {
        self.grids.push(grid);
    }

    pub(crate) fn print(&self) -> anyhow::Result<()> {
        let width = self.rows.iter().map(|(measure, _)| measure.chars().count()).max().unwrap_or(0);
        let mut text = format!("{}\n", self.heading);
        if !self.rows.is_empty() {
            text.push_str(&format!("\n| {:width$} | result |\n| {:-<width$} | --- |\n", "measure", ""));
        }
        for (measure, result) in &self.rows {
            text.push_str(&format!("| {measure:width$} | {result} |\n"));
        }
        self.grids.iter().for_each(|grid| text.push_str(&grid.markdown()));
        std::io::stdout().write_all(text.as_bytes()).context("printing the table")
    }
}

/// Says on standard error what is going on.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stderr(), "bench: {text}").context("writing to standard error")
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{cores} cores ({}), load {load} before the start", model.trim_start_matches([' ', '\t', ':']))
}
