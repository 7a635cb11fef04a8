//! The results as a Markdown table on standard output, from what criterion stored.

use std::{fs, path::Path};

use serde_json::Value;

/// Prints every measure that lies below the folder where criterion keeps them.
pub(crate) fn print(folder: &Path) {
    let mut rows = Vec::new();
    collect(folder, &mut rows);
    rows.sort();
    println!("\n| planner, one core | time, 95 % of means between |\n| --- | --- |");
    for (what, result) in rows {
        println!("| {what} | {result} |");
    }
}

fn collect(folder: &Path, rows: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        if path.file_name().is_some_and(|name| name == "new") {
            rows.extend(row(&path));
        } else {
            collect(&path, rows);
        }
    }
}

fn row(folder: &Path) -> Option<(String, String)> {
    let read = |file: &str| -> Option<Value> {
        serde_json::from_str(&fs::read_to_string(folder.join(file)).ok()?).ok()
    };
    let (benchmark, estimates) = (read("benchmark.json")?, read("estimates.json")?);
    let mean = &estimates["mean"];
    let range = &mean["confidence_interval"];
    let at = |value: &Value| Some(shown(value.as_f64()?));
    let result = format!(
        "{} ({} to {})",
        at(&mean["point_estimate"])?,
        at(&range["lower_bound"])?,
        at(&range["upper_bound"])?
    );
    Some((benchmark["full_id"].as_str()?.replace('/', ": "), result))
}

fn shown(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 1e6 => format!("{:.1} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}
