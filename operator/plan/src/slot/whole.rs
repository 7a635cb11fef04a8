//! Whole: the same rollout decided by a look at everybody. Builds with debug assertions compare both, so that every test of
//! the planner is one of what is said about clusters at rest.

use std::collections::BTreeMap;

use crate::{
    Name,
    at_rest::AtRest,
    input::Held,
    members::Members,
    rollout::{Look, Rolled, Seat, roll},
};

/// Whether a look at everybody decides the same.
pub(super) fn decides_the_same(look: &Look<'_>, members: &Members, rolled: &Rolled<'_>) -> bool {
    let nobody = AtRest::default();
    let whole = roll(look, &members.selected(), &nobody);
    let seats = rolled.seats.iter();
    let asked: BTreeMap<&Name, (&Held, bool)> =
        seats.map(|seat| (seat.name(), (&seat.asked, seat.tell))).collect();
    let alike = |seat: &Seat<'_>| {
        let stored = (seat.member.held(), false);
        asked.get(seat.name()).copied().unwrap_or(stored) == (&seat.asked, seat.tell)
    };
    (rolled.state, rolled.recheck, rolled.run.step, rolled.run.phase, &rolled.cause)
        == (whole.state, whole.recheck, whole.run.step, whole.run.phase, &whole.cause)
        && whole.seats.iter().all(alike)
}
