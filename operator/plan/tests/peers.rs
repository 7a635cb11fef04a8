//! What the peers document, as cases of their own in `tests/peers/*.yaml`: each row has the peer's answer and Nave's. Where
//! they differ the row says why; the planner must give Nave's.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_in_result,
    clippy::unwrap_used
)] // Helpers of tests are not seen as tests.

mod stage;

use std::{fs, path::Path};

use nave_operator_plan::{Name, PolicyKey, plan};
use serde::Deserialize;
use stage::Stage;

/// One documented case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// What the peer documents, in our words.
    rule: String,
    /// Commands of the scenarios; the question is put to policy `p` after them.
    given: String,
    /// `selected`, `count` (of the selected), `excluded`, `tell`, `failed`, `deferred`, `rolledBack` or `state`.
    ask: String,
    /// The peer's answer.
    theirs: String,
    /// Nave's.
    nave: String,
    /// Why Nave's differs; absent where it does not.
    why: Option<String>,
}

fn answer(row: &Row) -> String {
    let mut stage = Stage::default();
    let mut lines = row.given.lines().peekable();
    while let Some(command) = lines.next() {
        let mut block = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("  ")) {
            block.push_str(line);
            block.push('\n');
        }
        stage.run(command, &block);
    }
    let plan = plan(&stage.world, stage.now);
    let report = &plan.report.policies[&PolicyKey::new("ns", "p")];
    let names = |names: &[Name]| names.iter().map(|name| &**name).collect::<Vec<_>>().join(" ");
    match row.ask.as_str() {
        "selected" => names(&report.selected),
        "count" => report.selected.len().to_string(),
        "tell" => names(&report.tell),
        "failed" => names(&report.failed),
        "deferred" => names(&report.deferred),
        "rolledBack" => names(&report.rolled_back),
        "state" => format!("{:?}", report.step.state),
        "excluded" => {
            let one = |one: &nave_operator_plan::Excluded| format!("{}={}", one.cluster, one.reason.as_str());
            report.excluded.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        other => panic!("ask {other}"),
    }
}

#[test]
fn every_row_is_answered_as_written_and_every_difference_has_its_why() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let rows: Vec<Row> = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for row in rows {
            count += 1;
            let answered = answer(&row);
            if answered != row.nave {
                wrong.push(format!("{file}: {}: written {:?}, answered {answered:?}", row.rule, row.nave));
            }
            if (row.theirs == row.nave) == row.why.is_some() {
                wrong.push(format!("{file}: {}: `why` belongs to differences, and to all of them", row.rule));
            }
        }
    }
    assert!(count > 0);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
