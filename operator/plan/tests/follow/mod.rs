//! How a planner is kept that is never shown a whole world again.

use std::{borrow::Borrow as _, sync::Arc};

use nave_operator_plan::{Planner, World};

/// Tells the planner of every difference between two worlds.
pub(crate) fn follow(planner: &mut Planner, before: &World, after: &World) {
    macro_rules! differences {
        ($objects:ident, $upsert:ident, $remove:ident) => {
            for (key, object) in after.$objects() {
                if before.$objects().get(key) != Some(object) {
                    planner.$upsert(Arc::clone(object));
                }
            }
            for key in before.$objects().keys().filter(|key| !after.$objects().contains_key(*key)) {
                planner.$remove(key.borrow());
            }
        };
    }
    differences!(versions, upsert_version, remove_version);
    differences!(policies, upsert_policy, remove_policy);
    differences!(assignments, upsert_assignment, remove_assignment);
    differences!(clusters, upsert_cluster, remove_cluster);
}
