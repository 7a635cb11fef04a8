//! Member: one cluster as one policy sees it. What the two alone say is made anew whenever the cluster, its assignment,
//! the policy or its version changes, and at no other time; what was decided stands beside it.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use nave_crds::{Action, EntryStatus, Phase, TaintEffect};

use super::{
    beside::Beside,
    choose::Winner,
    domains::Signature,
    exclusion::{Hold, Refusal, judge, judge_beside},
    rank::Key,
    taints::untolerated,
};
use crate::{
    ExclusionReason, Name,
    input::{Held, Policy, Rows, Spoke, Version},
};

/// One cluster that concerns a policy: its labels match, or it has an entry of the policy.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) spoke: Spoke,
    pub(crate) matched: bool,
    /// It has an entry of this policy.
    pub(crate) chosen: bool,
    /// Serve entries of this policy that are stored.
    pub(crate) serve_entries: u32,
    /// What is stored for the policy's model; None = nothing.
    held: Option<Arc<Held>>,
    /// Where the spoke's rows for the policy's model are.
    rows: Rows,
    /// What the spoke said of the target. Of nearly all nothing else is asked, and its rows lie far away in memory.
    pub(crate) target: Option<Reported>,
    /// Where it lies, for the policy's spread.
    pub(crate) signature: Signature,
    /// PreferNoSelect taints that the policy does not tolerate.
    pub(crate) prefer_no_select: u32,
    /// Whether it is fit, as far as other policies and clusters do not matter. A chosen one may be told nothing for now.
    pub(crate) verdict: Result<Option<Hold>, Refusal>,
    /// Which policy before this one has it.
    pub(crate) winner: Option<Arc<Winner>>,
    /// Decided: chosen, but told nothing for now.
    pub(crate) hold: Option<Hold>,
    /// Decided: whether it is selected.
    pub(crate) place: Place,
    /// Decided: what is asked of it.
    pub(crate) asked: Asked,
    /// Decided: the rollout counts it without looking.
    pub(crate) rest: Option<Rest>,
}

/// What a spoke said of one version of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported {
    pub(crate) phase: Phase,
    pub(crate) since: Timestamp,
}

impl Reported {
    fn of(row: &EntryStatus) -> Self {
        Self { phase: row.phase, since: row.since.0 }
    }
}

/// Whether a cluster is selected.
#[derive(Debug, Default)]
pub(crate) enum Place {
    /// Its labels do not match, or nothing was decided yet.
    #[default]
    Out,
    /// It matches and is not chosen, for this first reason.
    Excluded(Refusal),
    /// It is chosen, with this rank.
    Selected(Key),
}

/// What is asked of a cluster.
#[derive(Debug, Default)]
pub(crate) enum Asked {
    #[default]
    Nothing,
    /// What is stored.
    Stored,
    This(Arc<Held>),
}

/// A selected cluster of which nothing is asked but what is stored, and about which a rollout that goes on as it is knows
/// all it has to by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) kind: Kind,
    /// It failed for the target.
    pub(crate) failed: bool,
    /// Its spoke holds the target's weights, verified.
    pub(crate) holds_target: bool,
    /// Told the target in this run.
    pub(crate) told_in_run: bool,
}

/// Where such a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Connected, and serving the target since then.
    Serving(Timestamp),
    /// Connected, told the target, neither there nor failed; it counts as failed from then on.
    InFlight(Timestamp),
    /// Told the target, and not connected.
    ToldAway,
    /// Not told, and not connected.
    UntoldAway,
    /// Connected, and not told.
    Waiting,
    /// Connected, sent back by a rollback, and on its way; it is no longer from then on.
    Returning(Timestamp),
    /// Connected, sent back because it failed, and there, or given up.
    Back,
    /// The same, and not connected.
    BackAway,
}

impl Kind {
    /// It has a Serve entry for the target.
    pub(crate) fn told(self) -> bool {
        match self {
            Self::Serving(_) | Self::InFlight(_) | Self::ToldAway => true,
            Self::UntoldAway | Self::Waiting | Self::Returning(_) | Self::Back | Self::BackAway => false,
        }
    }

    fn connected(self) -> bool {
        match self {
            Self::Serving(_) | Self::InFlight(_) | Self::Waiting | Self::Returning(_) | Self::Back => true,
            Self::ToldAway | Self::UntoldAway | Self::BackAway => false,
        }
    }
}

impl Rest {
    /// It has what it must have before it is told.
    pub(crate) fn staged(self, policy: &Policy) -> bool {
        !policy.prefetch() || self.holds_target
    }

    /// The gate of prefetch waits for it.
    pub(crate) fn delays(self) -> bool {
        self.kind.connected() && !self.failed && !self.holds_target
    }
}

/// What deciding about clusters changed for others.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// Clusters of which something else is asked than before.
    pub(crate) asked: Vec<Name>,
    /// Clusters that the policy has and had not, or the other way round, or tells to serve and did not.
    pub(crate) claims: Vec<Name>,
    /// Nobody asks for these: no policy comes after it.
    pub(crate) unheard: bool,
}

impl Member {
    /// What concerns a policy of a cluster; None where nothing does.
    pub(crate) fn of(policy: &Policy, version: Option<&Version>, spoke: &Spoke) -> Option<Self> {
        let beside =
            Beside { said: &mut None, signature: &mut None, known: &mut BTreeSet::new(), held: &mut None };
        Self::beside(policy, version, spoke, beside)
    }

    /// The same beside other policies and clusters.
    pub(crate) fn beside(
        policy: &Policy,
        version: Option<&Version>,
        spoke: &Spoke,
        mut beside: Beside<'_>,
    ) -> Option<Self> {
        let matched = policy.selector.matches(spoke.cluster.labels());
        let entries = spoke.assignment.entries_of(policy);
        let chosen = entries.clone().next().is_some();
        if !matched && !chosen {
            return None;
        }
        let tolerations = &policy.object.spec.placement.tolerations;
        let rows = spoke.assignment.rows_for(policy);
        let target = spoke.assignment.rows_in(&rows).find(|row| row.version == policy.target());
        let avoided = untolerated(spoke.cluster.taints(), tolerations, TaintEffect::PreferNoSelect);
        Some(Self {
            matched,
            chosen,
            held: beside.held(entries.clone(), policy),
            serve_entries: count(entries.filter(|entry| entry.action == Action::Serve)),
            rows,
            target: target.map(Reported::of),
            signature: beside.signature(policy, &spoke.cluster),
            prefer_no_select: count(avoided),
            verdict: judge_beside(policy, version, spoke, chosen, beside.said),
            winner: None,
            hold: None,
            place: Place::Out,
            asked: Asked::Nothing,
            rest: None,
            spoke: spoke.clone(),
        })
    }

    pub(crate) fn name(&self) -> &Name {
        &self.spoke.cluster.name
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.spoke.cluster.labels().get(key).map(String::as_str)
    }

    pub(crate) fn is_selected(&self) -> bool {
        matches!(self.place, Place::Selected(_))
    }

    /// Its rank, if it is selected.
    pub(crate) fn rank(&self) -> Option<&Key> {
        match &self.place {
            Place::Selected(key) => Some(key),
            Place::Out | Place::Excluded(_) => None,
        }
    }

    /// The same, if it is not at rest.
    pub(crate) fn busy(&self) -> Option<&Key> {
        self.rank().filter(|_| self.rest.is_none())
    }

    pub(crate) fn is_outranked(&self) -> bool {
        matches!(self.place, Place::Excluded((ExclusionReason::Outranked, _)))
    }

    /// Whether its place depends on nothing that `places_alike` does not compare. One that is dropped depends on what it
    /// will be without its entry.
    pub(crate) fn keeps_place(&self) -> bool {
        self.is_selected() || !self.chosen
    }

    /// What is stored for the policy's model.
    pub(crate) fn held(&self) -> &Held {
        self.held.as_deref().unwrap_or(Held::nothing())
    }

    /// The spoke's rows for the policy's model.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &EntryStatus> {
        self.spoke.assignment.rows_in(&self.rows)
    }

    /// What the spoke said of one version of it.
    pub(crate) fn reported(&self, version: &str) -> Option<Reported> {
        self.rows().find(|row| row.version == version).map(Reported::of)
    }

    /// What is asked of it; None = nothing.
    pub(crate) fn asked(&self) -> Option<&Held> {
        self.asked.held(self.held())
    }

    /// Whether it is this policy's, and told to serve: nobody else's entry stays then.
    pub(crate) fn claim(&self) -> Option<bool> {
        self.is_selected().then(|| self.asked().is_some_and(|held| held.serve.is_some()))
    }

    /// Judges it anew: the version that it is judged for changed.
    pub(crate) fn judge(&mut self, policy: &Policy, version: Option<&Version>) {
        self.verdict = judge(policy, version, &self.spoke, self.chosen);
    }

    /// It only keeps what it has: it is told nothing for now, or it is another policy's, which has not told it yet.
    pub(crate) fn only_keeps(&self) -> bool {
        self.hold.is_some() || !self.is_selected()
    }

    /// Takes over whether it is selected; `moved` learns what that changes for others.
    pub(crate) fn decide(&mut self, place: Place, moved: &mut Moved) {
        let claim = self.claim();
        self.place = place;
        self.tell_claim(claim, moved);
    }

    /// Takes over what is asked of it; `moved` learns what that changes for others.
    pub(crate) fn ask(&mut self, asked: Asked, moved: &mut Moved) {
        if asked.held(self.held()) == self.asked() {
            return;
        }
        let claim = self.claim();
        self.asked = asked;
        moved.asked.push(Name::clone(self.name()));
        self.tell_claim(claim, moved);
    }

    fn tell_claim(&self, before: Option<bool>, moved: &mut Moved) {
        if !moved.unheard && before != self.claim() {
            moved.claims.push(Name::clone(self.name()));
        }
    }
}

fn count(these: impl Iterator) -> u32 {
    u32::try_from(these.count()).unwrap_or(u32::MAX)
}

impl Asked {
    fn held<'a>(&'a self, stored: &'a Held) -> Option<&'a Held> {
        let held = match self {
            Self::Nothing => return None,
            Self::Stored => stored,
            Self::This(held) => held,
        };
        (!held.is_empty()).then_some(held)
    }
}
