//! Newcomers: clusters that are chosen by this very plan. It ranks them behind those that were chosen before; in the next plan
//! they are chosen too, and rank among them. What that plan would tell them then, this one tells them at once.

use super::standing::Seat;
use crate::input::Policy;

/// Puts the seats in the order of the next plan; says whether that may be another one. `others`: how many were chosen before
/// and have no seat.
pub(crate) fn take_their_places(policy: &Policy, seats: &mut [Seat<'_>], others: usize) -> bool {
    let newcomers = seats.iter().filter(|seat| !seat.member.chosen).count();
    if newcomers == 0 || newcomers == seats.len() + others {
        return false;
    }
    for seat in seats.iter_mut() {
        let next = seat.key().map(|key| key.once_chosen(policy, seat.member.chosen));
        seat.next = next.map(Box::new);
    }
    seats.sort_by(|a, b| a.next.cmp(&b.next));
    true
}
