//! Tests of `observed`.

use nave_proto::v1::EntryReports;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn observed() -> Observed {
    let opening =
        Opening { agent_version: "1".into(), generation: 0, not_after: at(9_999), key: Digest::of(b"") };
    Observed::new(opening, None, at(0))
}

fn report(rows: &[(&str, entry_report::Phase)]) -> Report {
    let rows = rows.iter().map(|(version, phase)| EntryReport {
        namespace: "vision".into(),
        model: "m".into(),
        version: (*version).into(),
        phase: (*phase).into(),
        digest: "sha256:1".into(),
        ..EntryReport::default()
    });
    Report { entries: Some(EntryReports { rows: rows.collect(), generation: 1 }), ..Report::default() }
}

fn since(observed: &Observed, version: &str) -> i64 {
    let rows = observed.rows().unwrap();
    rows.iter().find(|row| row.version == version).unwrap().since.0.as_second()
}

#[test]
fn only_what_can_be_dialled_is_an_address() {
    for good in ["10.0.0.5:7445", "[fd00::5]:7445", "node-3.site.example:7445"] {
        assert!(is_address(good), "{good}");
    }
    for bad in
        ["", "10.0.0.5", ":7445", "a b:1", "host:99999", "http://host:1", &format!("{}:1", "a".repeat(300))]
    {
        assert!(!is_address(bad), "{bad}");
    }
}

#[test]
fn since_is_when_the_phase_was_first_heard() {
    let mut spoke = observed();
    assert_eq!(spoke.rows(), None, "nothing reported is not the same as nothing there");
    spoke.hear(report(&[("1", entry_report::Phase::Pulling)]), None, at(10));
    spoke.hear(report(&[("1", entry_report::Phase::Pulling)]), None, at(20));
    assert_eq!(since(&spoke, "1"), 10);
    spoke.hear(report(&[("1", entry_report::Phase::Serving)]), None, at(30));
    assert_eq!(since(&spoke, "1"), 30);
    spoke.hear(Report::default(), None, at(40));
    assert_eq!(since(&spoke, "1"), 30, "an absent part is unchanged");
    spoke.hear(report(&[("1", entry_report::Phase::Unspecified)]), None, at(50));
    assert_eq!(spoke.rows(), Some(vec![]), "a row without a phase says nothing");
}

#[test]
fn a_restarted_hub_goes_on_from_what_is_stored() {
    let mut first = observed();
    first.hear(report(&[("1", entry_report::Phase::Serving)]), None, at(10));
    let status = nave_crds::ClusterAssignmentStatus {
        entries: first.rows().unwrap(),
        history: first.history.clone(),
        ..nave_crds::ClusterAssignmentStatus::default()
    };
    let stored = ClusterAssignment { status: Some(status), ..ClusterAssignment::default() };
    let opening =
        Opening { agent_version: "1".into(), generation: 1, not_after: at(9_999), key: Digest::of(b"") };
    let mut second = Observed::new(opening, Some(&stored), at(100));
    second.hear(report(&[("1", entry_report::Phase::Serving)]), Some(&stored), at(101));
    assert_eq!(since(&second, "1"), 10);
    assert_eq!(second.history.len(), 1);
}

#[test]
fn an_old_row_answers_a_new_entry_once_the_spoke_knows_it() {
    let told = |generation: i64| -> ClusterAssignment {
        let entry = serde_json::json!({
            "namespace": "vision", "policy": "p", "model": "m", "version": "1", "action": "Serve",
            "toldAt": at(100)
        });
        let spec = serde_json::json!({"generation": generation, "entries": [entry]});
        ClusterAssignment::new("a", serde_json::from_value(spec).unwrap())
    };
    let after = |generation: i64, phase| {
        let mut spoke = observed();
        spoke.hear(report(&[("1", phase)]), None, at(10));
        spoke.hear(report(&[("1", phase)]), Some(&told(generation)), at(105));
        since(&spoke, "1")
    };
    assert_eq!(after(1, entry_report::Phase::Serving), 105, "served before it was told, and still");
    assert_eq!(after(2, entry_report::Phase::Serving), 10, "it does not know the entry yet");
    assert_eq!(after(1, entry_report::Phase::Failed), 10, "an older attempt's failure");
}

#[test]
fn history_notes_what_ran_when() {
    let mut spoke = observed();
    for (second, version) in [(10, "1"), (20, "2"), (30, "2"), (40, "1")] {
        spoke.hear(report(&[(version, entry_report::Phase::Serving)]), None, at(second));
    }
    let history: Vec<_> = spoke.history.iter().map(|a| (a.version.as_str(), a.at.0.as_second())).collect();
    assert_eq!(history, [("1", 40), ("2", 20), ("1", 10)]);
}

#[test]
fn refused_entries_are_rows_until_the_next_answer() {
    let mut spoke = observed();
    spoke.hear(report(&[]), None, at(10));
    let key = v1::EntryKey {
        namespace: "vision".into(),
        policy: "p".into(),
        model: "m".into(),
        version: "2".into(),
    };
    let refused =
        vec![EntryRefusal { key: Some(key), reason: "RuntimeUnknown".into(), message: "no".into() }];
    spoke.answered(DesiredAck { generation: 2, accepted: true, refused, ..DesiredAck::default() }, at(20));
    assert_eq!(spoke.rows().unwrap()[0].phase, Phase::Rejected);
    spoke.answered(DesiredAck { generation: 3, accepted: true, ..DesiredAck::default() }, at(30));
    assert_eq!(spoke.rows(), Some(vec![]));
}
