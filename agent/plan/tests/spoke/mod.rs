//! A spoke without a disk: takes the planner's steps one by one as the shell would, with failures and kills on request.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use jiff::{SignedDuration, Timestamp};
use nave_agent_plan::{
    Action, Active, Class, Desired, Entry, EntryKey, Failed, Folder, Inventory, Job, Kept, Ledger,
    ModelInventory, Plan, Refusal, Step, Transfer, check::check, plan,
};
use nave_names::{Digest, Generation, ModelName, Namespace, PolicyName, VersionName};

pub fn entry(policy: &str, model: &str, version: &str, action: Action) -> Entry {
    Entry {
        key: EntryKey {
            namespace: Namespace::new("vision").unwrap(),
            policy: PolicyName::new(policy).unwrap(),
            model: ModelName::new(model).unwrap(),
            version: VersionName::new(version).unwrap(),
        },
        manifest_digest: digest(model, version),
        action,
        runtime: "files".into(),
        probe_timeout_seconds: 60,
        transfer: Transfer::default(),
        keep_on_removal: false,
        signature_public_key: String::new(),
        previous_version: None,
        format: "onnx".into(),
    }
}

pub fn serve(model: &str, version: &str) -> Entry {
    entry("line", model, version, Action::Serve)
}

pub fn prefetch(model: &str, version: &str) -> Entry {
    entry("line", model, version, Action::Prefetch)
}

pub fn digest(model: &str, version: &str) -> Digest {
    Digest::of(format!("{model} {version}").as_bytes())
}

pub fn snapshot(generation: u64, entries: &[Entry]) -> Desired {
    Desired { generation: Generation(generation), base: None, entries: entries.to_vec(), removed: Vec::new() }
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Fails,
    /// The process is killed when the step has done about half of what it does on disk.
    KilledMidway,
}

pub struct Spoke {
    pub ledger: Ledger,
    pub inventory: Inventory,
    pub now: Timestamp,
    pub trace: Vec<String>,
}

impl Spoke {
    pub fn new() -> Self {
        let mut inventory = Inventory::default();
        inventory.runtimes.insert("files".into());
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        Self { ledger: Ledger::default(), inventory, now, trace: Vec::new() }
    }

    pub fn tell(&mut self, desired: &Desired) -> Result<(), Refusal> {
        self.ledger = self.ledger.accept(desired)?;
        Ok(())
    }

    /// Plans, and proves that the plan keeps every rule.
    pub fn plan(&self) -> Plan {
        let plan = plan(&self.ledger, &self.inventory, self.now);
        let broken = check(&self.ledger, &self.inventory, &plan);
        assert!(broken.is_empty(), "{broken:#?}\n{:#?}", self.trace);
        let again = nave_agent_plan::plan(&self.ledger, &self.inventory, self.now);
        assert_eq!(plan, again, "planning twice differs");
        plan
    }

    /// Takes steps, each as `outcome` says, until there are none. Panics when that does not end.
    pub fn settle(&mut self, mut outcome: impl FnMut(&Step) -> Outcome) {
        for _ in 0..200 {
            let Some(step) = self.plan().steps.into_iter().next() else { return };
            let outcome = outcome(&step);
            self.take(&step, outcome);
        }
        panic!("does not settle: {:#?}", self.trace);
    }

    pub fn wait(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    pub fn restart(&mut self) {
        self.trace.push("restart".into());
        self.inventory.attempts = Default::default();
        self.inventory.running.clear();
        self.inventory.signed.clear();
        for model in self.inventory.models.values_mut() {
            model.switched = false;
        }
    }

    pub fn take(&mut self, step: &Step, outcome: Outcome) {
        self.trace.push(format!(
            "{}{}",
            describe(step),
            match outcome {
                Outcome::Done => "",
                Outcome::Fails => " fails",
                Outcome::KilledMidway => " killed",
            }
        ));
        if outcome == Outcome::Fails {
            self.fail(step);
        } else {
            self.apply(step, outcome == Outcome::KilledMidway);
        }
        if outcome == Outcome::KilledMidway {
            self.restart();
        }
    }

    fn fail(&mut self, step: &Step) {
        if let Step::Probe { model, .. } | Step::Activate { model, .. } = step {
            self.apply_begin(step);
            self.model(model).switched = false;
        }
        let what = Failed { reason: "Broken", message: "as asked", class: Class::Failed };
        self.inventory.attempts.failed(step.subject(), what, self.now, 0.0);
    }

    fn apply_begin(&mut self, step: &Step) {
        if let Step::Activate { model, active, .. } = step {
            let model = self.model(model);
            model.record.begin(active);
            model.linked = Some(active.folder());
        }
    }

    fn apply(&mut self, step: &Step, killed: bool) {
        match step {
            Step::Pull { digest, .. } => {
                self.inventory.partial.insert(*digest);
                if !killed {
                    self.inventory.partial.remove(digest);
                    self.inventory.held.insert(*digest);
                    self.inventory.attempts.forget(&step.subject());
                    if self.inventory.shelf.cold.is_some() {
                        let kept =
                            Kept { files: [(*digest, 10)].into(), last_needed: self.now, ..Kept::default() };
                        self.inventory.shelf.versions.insert(*digest, kept);
                    }
                }
            }
            Step::Verify { vouch, .. } => {
                if !killed {
                    self.inventory.signed.insert(*vouch);
                    self.inventory.attempts.forget(&step.subject());
                }
            }
            Step::CancelPull { digest } => {
                self.inventory.running.remove(&Job::Pull(*digest));
            }
            Step::Stage { model, active } => {
                self.model(model).folders.insert(active.folder(), true);
            }
            Step::Activate { model, .. } => {
                self.apply_begin(step);
                self.model(model).switched = true;
            }
            Step::Probe { model, active, .. } => {
                if !killed {
                    let model = self.model(model);
                    model.record.answered(active);
                    model.switched = false;
                    self.inventory.attempts.forget(&step.subject());
                }
            }
            Step::Revert { model } => {
                let model = self.model(model);
                model.linked = model.record.serving.as_ref().map(Active::folder);
                if !killed {
                    model.record.reverted();
                }
            }
            Step::Adopt { model, active } => self.model(model).record.adopt(active),
            Step::Retire { model, folder } => {
                self.model(model).folders.remove(folder);
            }
            Step::Remove { model } => {
                self.model(model).linked = None;
                if !killed {
                    self.inventory.models.remove(model);
                }
            }
            Step::Collect { roots, versions } => {
                self.inventory.held.retain(|digest| !versions.contains(digest));
                let freed = versions.iter().filter_map(|digest| self.inventory.shelf.versions.remove(digest));
                let freed: u64 = freed.flat_map(|kept| kept.files.into_values()).sum();
                self.inventory.shelf.taken = self.inventory.shelf.taken.saturating_sub(freed);
                self.inventory.partial.retain(|digest| roots.contains(digest));
            }
            Step::Promote { digest } | Step::Demote { digest } => {
                let is_demotion = matches!(step, Step::Demote { .. });
                let kept = self.inventory.shelf.versions.get_mut(digest).unwrap();
                if !killed {
                    kept.cold = if is_demotion { kept.files.keys().copied().collect() } else { [].into() };
                    self.inventory.attempts.forget(&step.subject());
                }
            }
        }
    }

    fn model(&mut self, model: &ModelName) -> &mut ModelInventory {
        self.inventory.models.entry(model.clone()).or_default()
    }

    pub fn rows(&self) -> Vec<String> {
        let say = |row: &nave_agent_plan::Row| {
            let reason = if row.reason.is_empty() { String::new() } else { format!(" {}", row.reason) };
            format!("{} {} {:?}{reason}", row.model, row.version, row.phase)
        };
        self.plan().rows.iter().map(say).collect()
    }

    pub fn linked(&self, model: &str) -> Option<String> {
        self.inventory.models.get(model)?.linked.as_ref().map(Folder::to_string)
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::Pull { key, action, .. } => format!("pull {} {} ({action:?})", key.model, key.version),
        Step::Verify { key, .. } => format!("verify {} {}", key.model, key.version),
        Step::CancelPull { .. } => "cancel a pull".into(),
        Step::Stage { model, active } => format!("stage {model} {}", active.version),
        Step::Activate { model, active, .. } => format!("activate {model} {}", active.version),
        Step::Probe { model, active, .. } => format!("probe {model} {}", active.version),
        Step::Revert { model } => format!("revert {model}"),
        Step::Adopt { model, active } => format!("adopt {model} for {}", active.policy),
        Step::Retire { model, folder } => {
            let folder = folder.to_string();
            format!("retire {model} {}", folder.rsplit_once('-').unwrap().0)
        }
        Step::Remove { model } => format!("remove {model}"),
        Step::Collect { .. } => "collect".into(),
        Step::Promote { .. } => "promote".into(),
        Step::Demote { .. } => "demote".into(),
    }
}
