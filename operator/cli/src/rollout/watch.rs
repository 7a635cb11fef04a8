//! `rollout status --watch`: what a policy's rollout shows, each time that it changes, until the end. A connection that is
//! lost on the way is made anew.

use std::{io::Write, pin::pin};

use anyhow::{anyhow, bail};
use futures::{Stream, StreamExt as _};
use kube::{
    Api,
    core::Status,
    runtime::{WatchStreamExt as _, watcher},
};
use nave_crds::{PlacementPolicy, StepState};

use super::{is_behind, status::write};
use crate::output::Format;

/// Shows the policy and every change of what is shown, until the end; `policy` is what was seen last.
pub(super) async fn watch(
    api: Api<PlacementPolicy>,
    name: &str,
    named: &str,
    policy: &mut PlacementPolicy,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut changes = pin!(watcher::watch_object(api, name).default_backoff());
    let mut shown = Vec::new();
    loop {
        let mut view = Vec::new();
        write(policy, format, &mut view)?;
        if view != shown {
            out.write_all(&view)?;
            out.flush()?;
            shown = view;
        }
        if let Some(ended) = end(policy) {
            return ended.map_err(|why| anyhow!("{named} {why}"));
        }
        *policy = next(&mut changes, named).await?;
    }
}

/// The policy as it is once something changed, however often the connection is lost until then: that is said once.
async fn next(
    mut changes: impl Stream<Item = watcher::Result<Option<PlacementPolicy>>> + Unpin,
    named: &str,
) -> anyhow::Result<PlacementPolicy> {
    let mut lost = false;
    while let Some(change) = changes.next().await {
        let error = match change {
            Ok(Some(policy)) => return Ok(policy),
            Ok(None) => bail!("{named} was deleted"),
            Err(error) => error,
        };
        if let Some(refusal) = refusal(&error) {
            bail!("{named} cannot be watched: {}", refusal.message);
        }
        if !lost {
            writeln!(std::io::stderr(), "lost the connection ({}), trying again", innermost(&error))?;
        }
        lost = true;
    }
    bail!("the API server ended the watch of {named}")
}

/// What the API server would say again to whoever asked again: who it is that asks (401), what it may do (403), or that there is
/// no such kind (404).
fn refusal(error: &watcher::Error) -> Option<&Status> {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    let status = match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status))
        | WatchError(status) => status,
        InitialListFailed(_) | WatchStartFailed(_) | WatchFailed(_) | NoResourceVersion => return None,
    };
    matches!(status.code, 401 | 403 | 404).then_some(status)
}

/// The cause that says best what happened.
fn innermost(error: &watcher::Error) -> &dyn std::error::Error {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost
}

/// Whether the rollout of the present generation is over, and how.
fn end(policy: &PlacementPolicy) -> Option<Result<(), &'static str>> {
    let status = policy.status.as_ref().filter(|status| !is_behind(status, policy))?;
    match status.step.as_ref()?.state {
        StepState::Complete => Some(Ok(())),
        StepState::RolledBack => Some(Err("was rolled back")),
        StepState::FailureBudget => Some(Err("was stopped by its failure budget")),
        StepState::Paused
        | StepState::RollingBack
        | StepState::Prefetching
        | StepState::Updating
        | StepState::Waiting
        | StepState::Soaking
        | StepState::AwaitingApproval => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_present_generation_ends_a_watch() {
        let policy = |state: &str, observed: i64| -> PlacementPolicy {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "bridges", "namespace": "vision", "generation": 2},
                "spec": {"model": {"name": "defects", "version": "2"}},
                "status": {"observedGeneration": observed, "step": {"index": 1, "of": 2, "state": state}}
            }))
            .unwrap()
        };
        assert_eq!(end(&policy("Complete", 2)), Some(Ok(())));
        assert_eq!(end(&policy("Complete", 1)), None);
        assert_eq!(end(&policy("Soaking", 2)), None);
        assert_eq!(end(&policy("RolledBack", 2)), Some(Err("was rolled back")));
    }

    #[test]
    fn only_what_will_not_mend_itself_ends_a_watch() {
        let refused = |code: u16| {
            let status = Status::failure("no", "No").with_code(code);
            [
                watcher::Error::InitialListFailed(kube::Error::Api(status.clone().boxed())),
                watcher::Error::WatchStartFailed(kube::Error::Api(status.clone().boxed())),
                watcher::Error::WatchFailed(kube::Error::Api(status.clone().boxed())),
                watcher::Error::WatchError(status.boxed()),
            ]
            .map(|error| refusal(&error).is_some())
        };
        for code in [401, 403, 404] {
            assert_eq!(refused(code), [true; 4], "{code}");
        }
        for code in [410, 429, 500, 503] {
            assert_eq!(refused(code), [false; 4], "{code}");
        }
    }
}
