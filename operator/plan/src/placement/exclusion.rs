//! Exclusion: the reasons that need no ranking, in the order in which the API names them, and what holds a chosen cluster
//! that they do not drop.

use std::sync::Arc;

use nave_crds::{AcceleratorStatus, Requirements, TaintEffect};

use super::{cel::Verdict, taints::untolerated};
use crate::{
    ExclusionReason,
    input::{Cluster, Policy, Spoke, Version, quantity::BILLION},
};

/// Why a cluster is no candidate.
pub(crate) type Refusal = (ExclusionReason, Arc<str>);

/// A chosen cluster that stays, but is told nothing; with the reason for people.
pub(crate) type Hold = Arc<str>;

/// Looks at one matched cluster. A candidate may come with a hold.
pub(crate) fn judge(
    policy: &Policy,
    version: Option<&Version>,
    spoke: &Spoke,
    chosen: bool,
) -> Result<Option<Hold>, Refusal> {
    judge_beside(policy, version, spoke, chosen, &mut None)
}

/// The same beside other policies with the same expressions: `said` is what these say of the cluster, once one was asked.
pub(crate) fn judge_beside(
    policy: &Policy,
    version: Option<&Version>,
    spoke: &Spoke,
    chosen: bool,
    said: &mut Option<Verdict>,
) -> Result<Option<Hold>, Refusal> {
    let verdict = judge_as(policy, version, spoke, chosen, said);
    match verdict {
        // Once its entry is gone it is a new one: what keeps new ones away comes before what drops it, so that the next plan
        // says the same.
        Err(refusal) if chosen => Err(judge_as(policy, version, spoke, false, said).err().unwrap_or(refusal)),
        Ok(_) | Err(_) => verdict,
    }
}

fn judge_as(
    policy: &Policy,
    version: Option<&Version>,
    spoke: &Spoke,
    chosen: bool,
    said: &mut Option<Verdict>,
) -> Result<Option<Hold>, Refusal> {
    let cluster = &spoke.cluster;
    let placement = &policy.object.spec.placement;
    if !cluster.object.spec.accepted {
        return Err((ExclusionReason::NotAccepted, "spec.accepted is not true".into()));
    }
    let mut taints = untolerated(cluster.taints(), &placement.tolerations, TaintEffect::NoSelect).chain(
        untolerated(cluster.taints(), &placement.tolerations, TaintEffect::NoSelectIfNew).filter(|_| !chosen),
    );
    if let Some(taint) = taints.next() {
        let message = format!("taint {}={}:{:?} is not tolerated", taint.key, taint.value, taint.effect);
        return Err((ExclusionReason::Tainted, message.into()));
    }
    let mut hold = judge_cel(policy, cluster, chosen, said)?;
    if let Err(refusal) = judge_requirements(policy, version, spoke) {
        let model = policy.model();
        if !(chosen && spoke.assignment.serves_any(&policy.key.namespace, model)) {
            return Err(refusal);
        }
        hold = hold.or(Some(refusal.1));
    }
    Ok(hold)
}

fn judge_cel(
    policy: &Policy,
    cluster: &Cluster,
    chosen: bool,
    said: &mut Option<Verdict>,
) -> Result<Option<Hold>, Refusal> {
    let error: Arc<str> = match &policy.expressions {
        Err(problem) => problem.to_string().into(),
        Ok(expressions) => match said.get_or_insert_with(|| expressions.judge(cluster)) {
            Verdict::True => return Ok(None),
            Verdict::False(text) => {
                return Err((ExclusionReason::CelFalse, format!("false: {text}").into()));
            }
            Verdict::Error(error) => error.as_str().into(),
        },
    };
    if chosen { Ok(Some(error)) } else { Err((ExclusionReason::CelError, error)) }
}

fn judge_requirements(policy: &Policy, version: Option<&Version>, spoke: &Spoke) -> Result<(), Refusal> {
    let cluster = &spoke.cluster;
    let needs = version.and_then(|version| version.object.spec.requirements.as_ref());
    if let Some(needs) = needs {
        judge_architecture(needs, cluster)?;
        judge_accelerator(needs, version.and_then(|version| version.min_memory), cluster)?;
    }
    judge_runtime(policy.runtime(), needs, cluster)?;
    match version {
        Some(version) => judge_storage(policy, version, spoke),
        None => Ok(()),
    }
}

fn judge_architecture(needs: &Requirements, cluster: &Cluster) -> Result<(), Refusal> {
    if needs.architectures.is_empty() {
        return Ok(());
    }
    let has = cluster.capacity().and_then(|capacity| capacity.architecture.as_deref());
    if has.is_some_and(|has| needs.architectures.iter().any(|one| one == has)) {
        return Ok(());
    }
    let message =
        format!("has {}, needs {}", has.unwrap_or("not reported"), needs.architectures.join(" or "));
    Err((ExclusionReason::Architecture, message.into()))
}

fn judge_accelerator(
    needs: &Requirements,
    min_memory: Option<i128>,
    cluster: &Cluster,
) -> Result<(), Refusal> {
    let Some(accelerator) = &needs.accelerator else { return Ok(()) };
    let fits = |has: &AcceleratorStatus| {
        let vendor = accelerator.vendor.as_deref().is_none_or(|vendor| vendor == has.vendor);
        let memory = min_memory
            .is_none_or(|least| has.memory_bytes.is_some_and(|bytes| i128::from(bytes) * BILLION >= least));
        has.usable && vendor && memory
    };
    if cluster.capacity().is_some_and(|capacity| capacity.accelerators.iter().any(fits)) {
        return Ok(());
    }
    let vendor = accelerator.vendor.as_deref().unwrap_or("any vendor");
    let memory = accelerator.min_memory.as_ref().map(|least| format!(" with at least {}", least.0));
    let message = format!("needs a usable accelerator of {vendor}{}", memory.unwrap_or_default());
    Err((ExclusionReason::Accelerator, message.into()))
}

/// Runtimes that every agent has.
const BUILT_IN: [&str; 2] = ["files", "hook"];

fn judge_runtime(asked: &str, needs: Option<&Requirements>, cluster: &Cluster) -> Result<(), Refusal> {
    let has = |name: &str| {
        BUILT_IN.contains(&name)
            || cluster
                .capacity()
                .is_some_and(|capacity| capacity.runtimes.iter().any(|runtime| runtime.name == name))
    };
    if !has(asked) {
        return Err((ExclusionReason::Runtime, format!("has no runtime {asked}").into()));
    }
    let any_of = needs.map_or(&[][..], |needs| &needs.runtimes);
    if any_of.is_empty() || any_of.iter().any(|name| has(name)) {
        return Ok(());
    }
    Err((ExclusionReason::Runtime, format!("has no runtime {}", any_of.join(" or ")).into()))
}

fn judge_storage(policy: &Policy, version: &Version, spoke: &Spoke) -> Result<(), Refusal> {
    let cluster = &spoke.cluster;
    let problem = match (version.size_bytes(), cluster.available_bytes(), cluster.storage_trouble()) {
        (_, _, Some(trouble)) => format!("StorageHealthy is False: {trouble}"),
        (Some(size), Some(available), None) if available < size => {
            format!("{available} bytes are available, version {} needs {size}", policy.target())
        }
        (_, _, None) => return Ok(()),
    };
    let (namespace, model, target) = (&policy.key.namespace, policy.model(), policy.target());
    let assignment = &spoke.assignment;
    let holds = assignment.row(namespace, model, target).is_some_and(|row| row.phase.is_verified());
    if holds || assignment.asks_for(namespace, model, target) {
        return Ok(());
    }
    Err((ExclusionReason::Storage, problem.into()))
}
