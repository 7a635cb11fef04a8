//! Claims: which policy has a cluster for a model. A cluster belongs, for each model, to the first policy that selects it,
//! whatever the namespaces, because a serving runtime knows a model by its name alone.

use std::{collections::BTreeMap, sync::Arc};

use crate::{Name, PolicyKey};

/// One policy's hold on one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) policy: Arc<PolicyKey>,
    /// The cluster is told to serve it: from then on nobody else's entry stays.
    pub(crate) serves: bool,
}

/// The claims of one model's policies, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(BTreeMap<Name, Claim>);

impl Claims {
    /// Takes clusters that nobody has yet.
    pub(crate) fn add(&mut self, name: &Name, claim: Claim) {
        self.0.entry(Arc::clone(name)).or_insert(claim);
    }

    /// Who has a cluster.
    pub(crate) fn of(&self, name: &Name) -> Option<&Claim> {
        self.0.get(name)
    }
}
