//! Scenarios: scripts whose lines are commands and prose, with what the planner answers written below each command behind
//! `| `. The golden text is the script itself; `UPDATE=1` rewrites it. Every plan is checked besides: against the
//! invariants, for being a fixed point, and for not depending on the order of its input.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_in_result,
    clippy::unwrap_used
)] // Helpers of tests are not seen as tests.

mod stage;

use std::{fs, path::Path};

use stage::Stage;

/// Plays a script and returns it with the answers as they are now.
fn play(script: &str) -> String {
    let mut stage = Stage::default();
    let mut text = String::new();
    let lines: Vec<&str> = script.lines().filter(|line| !line.starts_with("| ") && *line != "|").collect();
    let mut index = 0;
    while index < lines.len() {
        let command = lines[index];
        text.push_str(command);
        text.push('\n');
        index += 1;
        let mut block = String::new();
        while index < lines.len() && lines[index].starts_with("  ") {
            block.push_str(lines[index]);
            block.push('\n');
            index += 1;
        }
        text.push_str(&block);
        for line in stage.run(command, &block) {
            text.push_str(format!("| {line}").trim_end());
            text.push('\n');
        }
    }
    text
}

#[test]
fn every_script_answers_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut scripts: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    let mut wrong = Vec::new();
    for path in scripts {
        let written = fs::read_to_string(&path).unwrap();
        let played = play(&written);
        if written == played {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &played).unwrap();
            continue;
        }
        let line = written.lines().zip(played.lines()).position(|(a, b)| a != b).unwrap_or(0);
        let there =
            |text: &str| text.lines().skip(line).take(4).map(|l| format!("    {l}\n")).collect::<String>();
        wrong.push(format!(
            "{}:{}\n  written:\n{}  answered:\n{}",
            path.display(),
            line + 1,
            there(&written),
            there(&played)
        ));
    }
    assert!(wrong.is_empty(), "UPDATE=1 rewrites:\n{}", wrong.join("\n"));
}
