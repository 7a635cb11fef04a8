//! Accounts: which of those told are there because of which step, so that a step for which nobody has to be told asks for no
//! approval.

use std::collections::BTreeMap;

use super::{Look, standing::Seat, steps::matches};
use crate::at_rest::{AtRest, Matching, matching};

/// Whether somebody has to be told for a step: it asks for more than older runs and the steps before it account for. Those
/// that are away or failed count as well, or an approval could be got round by pulling a plug. None where those told would
/// have to be looked at one by one, and some have no seat.
pub(crate) fn anybody_needed(
    look: &Look<'_>,
    seats: &[Seat<'_>],
    at_rest: &AtRest,
    index: usize,
) -> Option<bool> {
    if at_rest.count() == 0 {
        Some(in_order(look, seats, index))
    } else {
        by_number(look, seats, at_rest, index)
    }
}

/// The steps take those told in the order in which they were.
fn in_order(look: &Look<'_>, seats: &[Seat<'_>], index: usize) -> bool {
    let mut in_order: Vec<usize> = (0..seats.len()).filter(|place| seats[*place].standing.told).collect();
    in_order.sort_by_key(|place| (seats[*place].asked.serve.as_ref().and_then(|told| told.at), *place));
    let mut accounted: Vec<bool> = seats.iter().map(|seat| older(seat)).collect();
    for (number, step) in look.policy.steps.iter().enumerate().take(index) {
        let matching: Vec<usize> = (0..seats.len()).filter(|place| matches(step, &seats[*place])).collect();
        let wanted = step.clusters.at_least_one_of(matching.len());
        let mut have = matching.iter().filter(|place| accounted[**place]).count();
        if number + 1 == index {
            return wanted > have;
        }
        for place in &in_order {
            if have < wanted && !accounted[*place] && matches(step, &seats[*place]) {
                accounted[*place] = true;
                have += 1;
            }
        }
    }
    false
}

/// Those that are in the same steps.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    count: usize,
    accounted: usize,
    /// Told in this run, and not accounted for.
    left: usize,
}

/// The same by number: it makes no difference in which order those were told that are in the same steps.
fn by_number(look: &Look<'_>, seats: &[Seat<'_>], at_rest: &AtRest, index: usize) -> Option<bool> {
    let mut accounts: BTreeMap<Matching, Account> = BTreeMap::new();
    for (matching, crowd) in at_rest.crowds() {
        let accounted = crowd.told - crowd.told_in_run;
        accounts.insert(*matching, Account { count: crowd.count, accounted, left: crowd.told_in_run });
    }
    for seat in seats {
        let account = accounts.entry(matching(look.policy, seat.member)).or_default();
        account.count += 1;
        account.accounted += usize::from(older(seat));
        account.left += usize::from(seat.standing.told_in_run);
    }
    for ((number, step), bit) in look.policy.steps.iter().enumerate().take(index).zip(0..Matching::BITS) {
        let all = step.selector.is_none();
        let of_step = accounts.iter_mut().filter(|(matching, _)| all || *matching & (1 << bit) != 0);
        let mut of_step: Vec<&mut Account> = of_step.map(|(_, account)| account).collect();
        let wanted = step.clusters.at_least_one_of(of_step.iter().map(|account| account.count).sum());
        let have: usize = of_step.iter().map(|account| account.accounted).sum();
        if number + 1 == index {
            return Some(wanted > have);
        }
        let missing = wanted.saturating_sub(have);
        let enough = of_step.iter().map(|account| account.left).sum::<usize>() > missing;
        of_step.retain(|account| account.left > 0);
        if missing > 0 && enough && of_step.len() > 1 {
            return None;
        }
        for account in of_step {
            let taken = account.left.min(missing);
            account.left -= taken;
            account.accounted += taken;
        }
    }
    Some(false)
}

/// Told the target before this run began.
fn older(seat: &Seat<'_>) -> bool {
    seat.standing.told && !seat.standing.told_in_run
}
