//! Newcomers: clusters that are chosen by this very plan. It ranks them behind those that were chosen before; in the next plan
//! they are chosen too, and rank among them. What that plan would tell them then, this one tells them at once.

use super::standing::Seat;
use crate::{input::Policy, placement::Place};

/// Puts the seats in the order of the next plan; says whether that may be another one.
pub(crate) fn take_their_places(policy: &Policy, seats: &mut [Seat<'_>]) -> bool {
    let newcomers = seats.iter().filter(|seat| !seat.member.chosen).count();
    if newcomers == 0 || newcomers == seats.len() {
        return false;
    }
    seats.sort_by_cached_key(|seat| match &seat.member.place {
        Place::Selected(key) => Some(key.once_chosen(policy, seat.member.chosen)),
        Place::Out | Place::Excluded(_) => None,
    });
    true
}
