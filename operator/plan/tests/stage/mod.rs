//! The stage of the scenarios: commands that set the world up, let spokes report, and plan.

mod objects;
mod render;

use jiff::{SignedDuration, Timestamp};
use nave_crds::{Action, ClusterAssignment, EntryStatus, Phase};
use nave_operator_plan::{Plan, World, check, plan, plan_document};
use std::{collections::BTreeMap, sync::Arc};

/// A world, the time, and what was planned last.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) now: Timestamp,
    /// The assignments that the last plan was stored over; None = there was none.
    overwritten: BTreeMap<String, Option<Arc<ClusterAssignment>>>,
}

/// A Tuesday.
const DAY: &str = "2026-11-24";

impl Default for Stage {
    fn default() -> Self {
        let now = format!("{DAY}T10:00:00Z").parse().unwrap();
        Self { world: World::default(), now, overwritten: BTreeMap::new() }
    }
}

impl Stage {
    /// Runs one command and says what it answers. Prose and unknown words answer nothing or fail the test.
    pub(crate) fn run(&mut self, command: &str, block: &str) -> Vec<String> {
        let words = words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] | ["#", ..] => {}
            ["at", time] => self.now = self.time(time),
            ["cluster", name, rest @ ..] => {
                names(name).iter().for_each(|name| objects::cluster(self, name, rest));
            }
            ["gone", all @ ..] => each(all, |name| self.world.remove_cluster(name)),
            ["connect", all @ ..] => each(all, |name| objects::connect(self, name, true)),
            ["disconnect", all @ ..] => each(all, |name| objects::connect(self, name, false)),
            ["version", model, version, rest @ ..] => objects::version(self, model, version, rest, block),
            ["policy", name, rest @ ..] => objects::policy(self, name, rest, block),
            ["delete", name] => self.world.remove_policy(&objects::key(name)),
            ["annotate", name, pair] => objects::annotate(self, name, pair),
            ["report", all, version, phase, rest @ ..] => {
                let since = rest.first().map_or(self.stamp(), |time| self.time(time));
                for name in names(all) {
                    self.report(&name, version, phase, since);
                }
            }
            ["says", all, version, words @ ..] => {
                for name in names(all) {
                    self.say(&name, version, &words.join(" "));
                }
            }
            ["obey", all @ ..] => self.obey(all),
            ["unwritten", all @ ..] => each(all, |name| self.unwrite(name)),
            ["plan", sections @ ..] => return self.plan(sections),
            ["plan-only", sections @ ..] => {
                return render::plan(self, &plan(&self.world, self.now), sections);
            }
            _ => panic!("unknown command: {command}"),
        }
        Vec::new()
    }

    /// The time as Kubernetes stores it.
    fn stamp(&self) -> Timestamp {
        Timestamp::from_second(self.now.as_second()).unwrap()
    }

    fn time(&self, text: &str) -> Timestamp {
        if let Some(hours) = text.strip_prefix('+') {
            let duration: SignedDuration = hours.parse().unwrap();
            return self.now + duration;
        }
        let text = if text.contains('T') { text.to_owned() } else { format!("{DAY}T{text}:00Z") };
        text.parse().unwrap_or_else(|_| panic!("time {text}"))
    }

    fn plan(&mut self, sections: &[&str]) -> Vec<String> {
        let plan = plan(&self.world, self.now);
        let problems = check(&self.world, &plan, self.now);
        assert!(problems.is_empty(), "{problems:#?}");
        let lines = render::plan(self, &plan, sections);
        self.store(&plan);
        let again = nave_operator_plan::plan(&self.world, self.now);
        assert!(again.assignments.is_empty(), "a plan of a plan assigns: {:#?}", again.assignments);
        if let Some((key, status)) = again.policy_status.iter().next() {
            let stored = self.world.policies()[key].status.as_ref();
            let (stored, status) =
                (serde_json::to_string(&stored).unwrap(), serde_json::to_string(status).unwrap());
            panic!("a plan of a plan writes\n{status}\nover\n{stored}");
        }
        assert!(again.events.is_empty(), "a plan of a plan tells: {:#?}", again.events);
        lines
    }

    /// Stores a plan through its document, as `kubectl nave plan -o json` hands it on.
    pub(crate) fn store(&mut self, plan: &Plan) {
        let document = plan_document(&self.world, plan, self.now).unwrap();
        self.overwritten.clear();
        for object in document["objects"].as_array().unwrap() {
            match object["kind"].as_str().unwrap() {
                "ClusterAssignment" => {
                    let assignment: ClusterAssignment = serde_json::from_value(object.clone()).unwrap();
                    let name = assignment.metadata.name.clone().unwrap();
                    let before = self.world.assignments().get(&*name).cloned();
                    self.overwritten.insert(name, before);
                    self.world.upsert_assignment(Arc::new(assignment));
                }
                "PlacementPolicy" => {
                    self.world.upsert_policy(Arc::new(serde_json::from_value(object.clone()).unwrap()));
                }
                other => panic!("an object of kind {other}"),
            }
        }
    }

    /// Of the last plan everything was stored but the assignment of this cluster: the hub was killed, or refused.
    fn unwrite(&mut self, name: &str) {
        match self.overwritten.remove(name) {
            None => {}
            Some(None) => self.world.remove_assignment(name),
            Some(Some(before)) => self.world.upsert_assignment(before),
        }
    }

    /// A spoke reports the phase of one version: `[namespace/]model@version`.
    fn report(&mut self, name: &str, version: &str, phase: &str, since: Timestamp) {
        let (namespace, version) = version.split_once('/').unwrap_or(("ns", version));
        let (model, version) = version.split_once('@').unwrap_or(("m", version));
        let key = (namespace, model, version);
        let mut assignment = objects::assignment(self, name);
        let generation = assignment.spec.generation;
        let status = assignment.status.get_or_insert_default();
        status.observed_generation = Some(generation);
        status.entries.retain(|row| row_key(row) != key);
        if phase != "-" {
            let phase = serde_json::from_value(phase.into()).unwrap();
            status.entries.push(row(key, phase, since));
        }
        self.world.upsert_assignment(Arc::new(assignment));
    }

    /// What a spoke says of a version that it reported on, for people.
    fn say(&mut self, name: &str, version: &str, words: &str) {
        let version = version.split_once('@').map_or(version, |(_, version)| version);
        let mut assignment = objects::assignment(self, name);
        let rows = assignment.status.iter_mut().flat_map(|status| &mut status.entries);
        rows.filter(|row| row.version == version).for_each(|row| row.message = words.to_owned());
        self.world.upsert_assignment(Arc::new(assignment));
    }

    /// Connected spokes do what they are asked: what is to be served is served, what is to be fetched is staged. Those
    /// named are the only ones, or, behind `but`, the exceptions.
    fn obey(&mut self, all: &[&str]) {
        let (only, but): (Vec<&str>, Vec<&str>) = match all.split_first() {
            Some((&"but", rest)) => (Vec::new(), rest.to_vec()),
            _ => (all.to_vec(), Vec::new()),
        };
        let only: Vec<String> = only.iter().flat_map(|name| names(name)).collect();
        let but: Vec<String> = but.iter().flat_map(|name| names(name)).collect();
        let clusters: Vec<String> = self.world.assignments().keys().map(ToString::to_string).collect();
        for name in clusters {
            let named = only.is_empty() || only.contains(&name);
            if named && !but.contains(&name) && objects::connected(self, &name) {
                let mut assignment = objects::assignment(self, &name);
                settle(&mut assignment, self.stamp());
                self.world.upsert_assignment(Arc::new(assignment));
            }
        }
    }
}

/// What a healthy spoke reports once it has done everything that it is asked.
fn settle(assignment: &mut ClusterAssignment, now: Timestamp) {
    let entries = assignment.spec.entries.clone();
    let generation = assignment.spec.generation;
    let status = assignment.status.get_or_insert_default();
    status.observed_generation = Some(generation);
    let before = std::mem::take(&mut status.entries);
    for entry in entries.iter().filter(|entry| entry.action != Action::Wait) {
        let phase = if entry.action == Action::Serve { Phase::Serving } else { Phase::Staged };
        let key = (entry.namespace.as_str(), entry.model.as_str(), entry.version.as_str());
        let old = before.iter().find(|old| row_key(old) == key);
        let told = entry.told_at.as_ref().map(|at| at.0);
        let since = match old {
            Some(old) if old.phase == phase && Some(old.since.0) >= told => old.since.0,
            _ => now,
        };
        if !status.entries.iter().any(|row| row_key(row) == key) {
            status.entries.push(row(key, phase, since));
        }
    }
}

fn row_key(row: &EntryStatus) -> (&str, &str, &str) {
    (&row.namespace, &row.model, &row.version)
}

fn row((namespace, model, version): (&str, &str, &str), phase: Phase, since: Timestamp) -> EntryStatus {
    serde_json::from_value(serde_json::json!({
        "namespace": namespace, "model": model, "version": version, "phase": phase, "since": since,
    }))
    .unwrap()
}

fn each(all: &[&str], mut act: impl FnMut(&str)) {
    for name in all.iter().flat_map(|name| names(name)) {
        act(&name);
    }
}

/// `a`, or `a1..9`: a number of names.
fn names(text: &str) -> Vec<String> {
    let Some((first, last)) = text.split_once("..") else { return vec![text.to_owned()] };
    let prefix = first.trim_end_matches(|c: char| c.is_ascii_digit());
    let from: usize = first[prefix.len()..].parse().unwrap();
    (from..=last.parse().unwrap()).map(|n| format!("{prefix}{n:0width$}", width = last.len())).collect()
}

fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}
