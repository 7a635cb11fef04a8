//! Standing: where each selected cluster is in the run, from its entry, its spoke's report and its connection.

use std::sync::Arc;

use jiff::Timestamp;
use nave_crds::Phase;

use super::{Look, target::Run, tell};
use crate::{
    Category, Name,
    input::{Held, Policy, Told, Version},
    placement::{Key, Kind, Member, Reported, Rest},
};

/// A selected cluster.
#[derive(Clone, Debug)]
pub(crate) struct Seat<'a> {
    pub(crate) member: &'a Member,
    /// Place in the disruption budget's groups.
    pub(crate) group: usize,
    /// What is asked of it: as stored, then as this plan leaves it.
    pub(crate) asked: Held,
    /// Told by this plan to switch to the target.
    pub(crate) tell: bool,
    /// Its spoke holds the target's weights, verified.
    pub(crate) holds_target: bool,
    pub(crate) standing: Standing,
    /// Its rank in the next plan, where that is looked at.
    pub(crate) next: Option<Box<Key>>,
}

/// Where a selected cluster is.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) category: Category,
    /// It has a Serve entry for the target.
    pub(crate) told: bool,
    /// That entry is of this run.
    pub(crate) told_in_run: bool,
    /// Since when it serves the target.
    pub(crate) serving_since: Option<Timestamp>,
    /// It is in flight, for the target or for another version, until then.
    pub(crate) flight_until: Option<Timestamp>,
    /// It was sent back in this run.
    pub(crate) sent_back: bool,
}

impl Seat<'_> {
    /// Its rank.
    pub(crate) fn key(&self) -> Option<&Key> {
        self.next.as_deref().or(self.member.rank())
    }

    pub(crate) fn name(&self) -> &Name {
        self.member.name()
    }

    pub(crate) fn connected(&self) -> bool {
        self.member.spoke.cluster.connected()
    }

    pub(crate) fn held(&self) -> bool {
        self.member.hold.is_some()
    }

    pub(crate) fn is(&self, category: Category) -> bool {
        self.standing.category == category
    }

    /// A step may count on it: connected, and not held by requirements where it does not serve the target already.
    pub(crate) fn active(&self) -> bool {
        self.connected() && (!self.held() || self.is(Category::Serving))
    }

    /// Active and not failed.
    pub(crate) fn eligible(&self) -> bool {
        self.active() && !self.is(Category::Failed)
    }

    /// The gate of prefetch waits for it.
    pub(crate) fn delays_prefetch(&self) -> bool {
        self.eligible() && !self.holds_target
    }

    /// The version that it would go back to.
    pub(crate) fn previous(&self) -> Option<&str> {
        self.asked.serve.as_ref().and_then(|told| told.previous.as_deref())
    }

    /// On the way to a version that is not the target.
    pub(crate) fn in_old_flight(&self) -> bool {
        !self.standing.told
            && self.standing.flight_until.is_some()
            && !self.held()
            && !self.is(Category::Failed)
    }
}

/// Whether a report is of the attempt that began when its entry was told, not of an older one.
fn counts(row: Reported, told_at: Option<Timestamp>) -> bool {
    told_at.is_none_or(|at| row.since >= at)
}

/// Where a cluster is, given what is asked of it.
pub(crate) fn standing(
    policy: &Policy,
    now: Timestamp,
    run: &Run,
    member: &Member,
    asked: &Held,
) -> Standing {
    let row = member.target;
    let serve = asked.serve.as_deref();
    let target = serve.filter(|serve| *serve.version == *policy.target());
    let connected = member.spoke.cluster.connected();
    let serving_since = target.and_then(|told| serving_since(told, row));
    let flight_until = serve.and_then(|serve| flight_until(policy, now, member, serve));
    let reported = reports_failure(policy, run, member, asked);
    let held = member.hold.is_some();
    let sent_back = target.is_none() && sent_back(run, asked);
    let over = connected && !held && serving_since.is_none() && flight_until.is_none();
    let late = over && target.is_some();
    let lost = sent_back && serve.is_some_and(|told| lost(member, told, over));
    let category = if connected && serving_since.is_some() {
        Category::Serving
    } else if reported || late || lost {
        Category::Failed
    } else if !connected || held {
        Category::Deferred
    } else if target.is_some() {
        Category::InFlight
    } else {
        Category::Waiting
    };
    Standing {
        category,
        told: target.is_some(),
        told_in_run: target.is_some_and(|told| told_in_run(run, told)),
        serving_since,
        flight_until,
        sent_back,
    }
}

/// Whether the spoke says that it fails the target, in the attempt that is asked of it.
pub(crate) fn reports_failure(policy: &Policy, run: &Run, member: &Member, asked: &Held) -> bool {
    let Some(row) = member.target.filter(|row| row.phase.is_failure()) else { return false };
    let asked = [&asked.serve, &asked.prefetch].into_iter().flatten();
    let attempt = asked.into_iter().find(|told| *told.version == *policy.target());
    counts(row, attempt.map_or(Some(run.started_at), |told| told.at))
}

/// Since when one that was told the target serves it.
fn serving_since(told: &Told, row: Option<Reported>) -> Option<Timestamp> {
    row.filter(|row| row.phase == Phase::Serving && counts(*row, told.at)).map(|row| row.since)
}

fn told_in_run(run: &Run, told: &Told) -> bool {
    told.at.is_some_and(|at| at >= run.started_at)
}

/// Until when a cluster is on the way to the version it was told; None = it is there, gave up, took too long, or is away.
fn flight_until(policy: &Policy, now: Timestamp, member: &Member, told: &Told) -> Option<Timestamp> {
    let connected_since = member.spoke.cluster.connected_since?;
    let is_target = *told.version == *policy.target();
    if let Some(row) = member.reported(&told.version) {
        // A cluster that is sent back, or overtaken by a new target, may never have left what it serves: then the spoke
        // has nothing new to report, and that it knows the newest entries is what makes its old report count.
        let stored = member.held().serve.as_deref() == Some(told);
        let fresh = counts(row, told.at) || (!is_target && stored && member.spoke.assignment.observed());
        if fresh && row.phase == Phase::Serving || counts(row, told.at) && row.phase.is_failure() {
            return None;
        }
    }
    let from = told.at.map_or(connected_since, |at| at.max(connected_since));
    let until = from.saturating_add(policy.deadline).unwrap_or(Timestamp::MAX);
    (until > now).then_some(until)
}

/// Whether one that was sent back fails the version that it went back to, or did not get there while it could.
fn lost(member: &Member, told: &Told, over: bool) -> bool {
    match member.reported(&told.version) {
        Some(row) if row.phase == Phase::Serving => false,
        Some(row) => over || row.phase.is_failure() && counts(row, told.at),
        None => over,
    }
}

/// Whether what is asked was asked by sending the cluster back in this run.
fn sent_back(run: &Run, asked: &Held) -> bool {
    if !run.is_back() {
        return false;
    }
    match &asked.serve {
        Some(serve) => serve.at.is_some_and(|at| {
            let itself = serve.previous.as_ref() == Some(&serve.version);
            at > run.started_at || (at == run.started_at && itself)
        }),
        None => asked.wait.flatten().is_some_and(|at| at >= run.started_at),
    }
}

/// Whether the spoke holds the target's weights, verified: since when, and for which entry, makes no difference to them.
pub(crate) fn holds_target(member: &Member) -> bool {
    member.target.is_some_and(|row| row.phase.is_verified())
}

/// Whether a selected cluster is at rest in a run that goes on as it is stored, as of a time that will not come back.
pub(crate) fn rest(
    policy: &Policy,
    version: Option<&Version>,
    run: &Run,
    now: Timestamp,
    member: &Member,
) -> Option<Rest> {
    let stored = member.held();
    let waits = tell::wait(run, stored) != stored.wait;
    let fetches = tell::prefetch(policy, version, run, now, member) != stored.prefetch;
    if !member.chosen || member.hold.is_some() || waits || fetches {
        return None;
    }
    // Of nearly all that are at rest nothing but this has to be known.
    let row = member.target;
    let told = stored.serve.as_deref().filter(|told| *told.version == *policy.target());
    if run.is_back() && told.is_some_and(|told| told_in_run(run, told)) {
        // It may have to be sent back.
        return None;
    }
    let holds_target = holds_target(member);
    if member.spoke.cluster.connected()
        && let Some(told) = told
        && let Some(since) = serving_since(told, row)
    {
        let told_in_run = told_in_run(run, told);
        return Some(Rest { kind: Kind::Serving(since), failed: false, holds_target, told_in_run });
    }
    let standing = standing(policy, now, run, member, stored);
    let failed = standing.category == Category::Failed;
    let connected = member.spoke.cluster.connected();
    // What one that did not fail waits for, where the target cannot be told, is the target.
    let returns = standing.sent_back && (failed || version.is_some_and(Version::usable));
    let kind = match (standing.category, standing.told, standing.flight_until) {
        (Category::Failed | Category::Waiting, false, Some(until)) if returns => Kind::Returning(until),
        (Category::Failed, false, None) if returns => {
            if connected {
                Kind::Back
            } else {
                Kind::BackAway
            }
        }
        (Category::InFlight, true, Some(until)) => Kind::InFlight(until),
        (Category::Deferred, true, _) => Kind::ToldAway,
        (Category::Deferred, false, None) => Kind::UntoldAway,
        (Category::Waiting, false, None) => Kind::Waiting,
        _ => return None,
    };
    Some(Rest { kind, failed, holds_target, told_in_run: standing.told_in_run })
}

/// The last version that a cluster really served, to go back to once it is told the target.
pub(crate) fn previous_version(look: &Look<'_>, member: &Member) -> Option<Arc<str>> {
    let (namespace, model, target) = (look.namespace(), look.policy.model(), look.policy.target());
    let serving = member
        .rows()
        .filter(|row| row.phase == Phase::Serving && row.version != target)
        .max_by(|a, b| (a.since.0, &a.version).cmp(&(b.since.0, &b.version)));
    if let Some(row) = serving {
        return Some(Arc::from(row.version.as_str()));
    }
    let told = member.held().serve.as_ref()?;
    if *told.version != *target && member.spoke.assignment.activated(namespace, model, &told.version) {
        return Some(Arc::clone(&told.version));
    }
    told.previous.clone()
}
