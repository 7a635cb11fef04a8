//! Taints and tolerations, as Kubernetes matches them for pods.

use nave_crds::{Taint, TaintEffect, Toleration, TolerationOperator};

/// Whether a toleration covers a taint.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    if toleration.effect.is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    let key = toleration.key.as_deref().unwrap_or_default();
    match toleration.operator {
        TolerationOperator::Exists => key.is_empty() || key == taint.key,
        TolerationOperator::Equal => {
            key == taint.key && toleration.value.as_deref().unwrap_or_default() == taint.value
        }
    }
}

/// The taints of one effect that no toleration covers.
pub(crate) fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &'a [Toleration],
    effect: TaintEffect,
) -> impl Iterator<Item = &'a Taint> {
    taints.iter().filter(move |taint| {
        taint.effect == effect && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    })
}
