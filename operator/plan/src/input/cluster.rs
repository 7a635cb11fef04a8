//! Cluster: one EdgeCluster with what the planner asks of it often already looked up.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use nave_crds::{Capacity, EdgeCluster, Taint, view::conditions};

use super::Assignment;
use crate::{Name, placement::cel::CelCluster};

/// One EdgeCluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) name: Name,
    pub(crate) object: Arc<EdgeCluster>,
    /// Since when the spoke is connected; None = it is not.
    pub(crate) connected_since: Option<Timestamp>,
    /// Of all usable accelerators, in bytes.
    pub(crate) accelerator_memory: i128,
    /// What CEL expressions see; built when the first of them looks.
    pub(crate) cel: CelCluster,
}

/// One cluster with what is assigned to it: the unit that policies choose among.
#[derive(Clone, Debug)]
pub(crate) struct Spoke {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) assignment: Arc<Assignment>,
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

impl Cluster {
    pub(crate) fn new(name: &str, object: Arc<EdgeCluster>) -> Self {
        let connected = object
            .status
            .as_ref()
            .and_then(|status| conditions::find(&status.conditions, conditions::CONNECTED))
            .filter(|condition| condition.status == conditions::Status::True.as_str());
        let capacity = object.status.as_ref().and_then(|status| status.capacity.as_ref());
        let accelerators = capacity.map_or(&[][..], |capacity| &capacity.accelerators);
        let usable = accelerators.iter().filter(|accelerator| accelerator.usable);
        Self {
            accelerator_memory: usable.map(|one| i128::from(one.memory_bytes.unwrap_or(0))).sum(),
            name: Name::from(name),
            connected_since: connected.map(|condition| condition.last_transition_time.0),
            cel: CelCluster::default(),
            object,
        }
    }

    pub(crate) fn labels(&self) -> &BTreeMap<String, String> {
        self.object.metadata.labels.as_ref().unwrap_or(&NO_LABELS)
    }

    pub(crate) fn taints(&self) -> &[Taint] {
        &self.object.spec.taints
    }

    pub(crate) fn capacity(&self) -> Option<&Capacity> {
        self.object.status.as_ref()?.capacity.as_ref()
    }

    pub(crate) fn available_bytes(&self) -> Option<i64> {
        self.capacity()?.storage.as_ref()?.available_bytes
    }

    /// What is wrong with its store, in the spoke's words; None = nothing that anybody knows of.
    pub(crate) fn storage_trouble(&self) -> Option<&str> {
        let conditions = &self.object.status.as_ref()?.conditions;
        let storage = conditions::find(conditions, conditions::STORAGE_HEALTHY)?;
        (storage.status == conditions::Status::False.as_str()).then_some(storage.message.as_str())
    }

    pub(crate) fn connected(&self) -> bool {
        self.connected_since.is_some()
    }
}
