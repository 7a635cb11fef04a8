//! Scenarios: scripts whose lines are commands and prose, with what the planner answers written below each command behind
//! `| `. The golden text is the script itself; `UPDATE=1` rewrites it. Every plan is checked besides: against the
//! invariants, for being a fixed point, and for being that of a planner which has followed the script from its beginning.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_in_result,
    clippy::unwrap_used
)] // Helpers of tests are not seen as tests.

mod follow;
mod stage;

use std::{fs, path::Path};

use follow::follow;
use nave_operator_plan::{Decisions, Planner, World, plan};
use stage::Stage;

/// A planner that is told of changes alone.
struct Follower {
    planner: Planner,
    before: World,
}

impl Follower {
    fn new(stage: &Stage) -> Self {
        Self { planner: Planner::new(&stage.world), before: stage.world.clone() }
    }

    /// Decides what `stage` is about to decide from scratch.
    fn agrees(&mut self, stage: &Stage, command: &str) {
        follow(&mut self.planner, &self.before, &stage.world);
        self.before = stage.world.clone();
        let Decisions { assignments, policy_status, recheck_at, events } = self.planner.decide(stage.now);
        let scratch = plan(&stage.world, stage.now);
        assert_eq!(assignments, scratch.assignments, "at {}: {command}", stage.now);
        assert_eq!(policy_status, scratch.policy_status, "at {}: {command}", stage.now);
        assert_eq!(recheck_at, scratch.recheck_at, "at {}: {command}", stage.now);
        assert_eq!(events, scratch.events, "at {}: {command}", stage.now);
        assert_eq!(self.planner.report(stage.now), scratch.report, "at {}: {command}", stage.now);
    }
}

/// Plays a script and returns it with the answers as they are now.
fn play(script: &str) -> String {
    let mut stage = Stage::default();
    let mut follower = Follower::new(&stage);
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
        if command.split_whitespace().next() == Some("plan") {
            follower.agrees(&stage, command);
        }
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
