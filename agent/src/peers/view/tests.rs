//! Who fetches what, as each spoke of a site sees it.

use super::*;

const CHUNKS: usize = 200;

fn name(text: &str) -> ClusterName {
    ClusterName::new(text).unwrap()
}

fn hash(chunk: usize) -> Blake3 {
    Blake3::of(&chunk.to_le_bytes())
}

/// A spoke of a site where all of `names` fetch and nobody has anything.
fn spoke(me: &str, names: &[&str], now: Instant) -> SiteView {
    let mut view = SiteView::new(&name(me), Bits::none(CHUNKS), now);
    for other in names.iter().filter(|other| **other != me) {
        view.hear(&name(other), nothing(), now);
    }
    view
}

fn nothing() -> Told {
    Told { verified: Bits::none(CHUNKS), claimed: Bits::none(CHUNKS), fetching: true }
}

fn having(chunks: &[usize]) -> Told {
    let mut told = nothing();
    chunks.iter().for_each(|chunk| assert!(told.verified.set(*chunk, true)));
    told
}

fn fetchable(view: &SiteView, reason: Reason, now: Instant) -> Vec<usize> {
    (0..CHUNKS).filter(|chunk| view.may_fetch(reason, &(*chunk..*chunk + 1), &hash(*chunk), now)).collect()
}

#[test]
fn each_chunk_has_one_owner_and_shares_are_even() {
    let names = ["n-0", "n-1", "n-2", "n-3", "n-4"];
    let now = Instant::now();
    let mut owned = vec![0; CHUNKS];
    for me in names {
        let own = fetchable(&spoke(me, &names, now), Reason::Own, now);
        assert!((25..=55).contains(&own.len()), "{me} owns {}", own.len());
        own.into_iter().for_each(|chunk| owned[chunk] += 1);
    }
    assert!(owned.iter().all(|owners| *owners == 1));
}

#[test]
fn alone_everything_is_ones_own() {
    let now = Instant::now();
    assert_eq!(fetchable(&spoke("a", &["a"], now), Reason::Own, now).len(), CHUNKS);
}

#[test]
fn what_a_peer_has_is_read_there_and_from_the_least_busy() {
    let now = Instant::now();
    let mut view = spoke("a", &["a", "b", "c"], now);
    view.hear(&name("b"), having(&[7]), now);
    view.hear(&name("c"), having(&[7]), now);
    assert!(
        !fetchable(&view, Reason::Own, now).contains(&7) && !fetchable(&view, Reason::Held, now).contains(&7)
    );
    let first = view.holder(7..8, now).unwrap().clone();
    view.begin_read(&first);
    assert_ne!(view.holder(7..8, now), Some(&first));
    assert_eq!(view.holder(8..9, now), None);
}

#[test]
fn a_peer_that_goes_leaves_its_share_to_the_others() {
    let now = Instant::now();
    let mut view = spoke("a", &["a", "b"], now);
    assert!(fetchable(&view, Reason::Own, now).len() < CHUNKS);
    view.lose(&name("b"));
    assert_eq!(fetchable(&view, Reason::Own, now).len(), CHUNKS);
}

#[test]
fn a_liar_is_neither_asked_nor_waited_for() {
    let now = Instant::now();
    let mut view = spoke("a", &["a", "b"], now);
    let everything = Told { verified: Bits::all(CHUNKS), ..nothing() };
    view.hear(&name("b"), everything.clone(), now);
    assert_eq!(fetchable(&view, Reason::Own, now).len(), 0);
    view.blame(&name("b"), &PeerTrouble::Lied, now);
    // Not even after it was away.
    view.lose(&name("b"));
    view.hear(&name("b"), everything, now);
    assert_eq!(view.holder(0..1, now), None);
    assert_eq!(fetchable(&view, Reason::Own, now).len(), CHUNKS);
}

#[test]
fn who_claims_everything_and_brings_nothing_is_waited_for_within_bounds() {
    let start = Instant::now();
    let mut view = spoke("a", &["a", "b"], start);
    let claims = Told { claimed: Bits::all(CHUNKS), ..nothing() };
    view.hear(&name("b"), claims.clone(), start);
    assert_eq!(fetchable(&view, Reason::Own, start), [] as [usize; 0]);
    assert_eq!(view.reasons(start), [Reason::Own]);
    let later = start + LEAST_PATIENCE * PATIENCE;
    view.hear(&name("b"), claims, later);
    assert_eq!(view.reasons(later), [Reason::Own, Reason::Held]);
    assert_eq!(fetchable(&view, Reason::Held, later).len(), CHUNKS);
}

#[test]
fn a_peer_that_is_to_begin_is_expected_for_a_moment() {
    let start = Instant::now();
    let mut view = spoke("a", &["a", "b"], start);
    let not_yet = Told { fetching: false, ..nothing() };
    view.hear(&name("b"), not_yet, start);
    let share = fetchable(&view, Reason::Own, start).len();
    assert!(share < CHUNKS);
    assert_eq!(fetchable(&view, Reason::Own, start + EXPECTED).len(), CHUNKS);
}

#[test]
fn who_is_done_with_its_share_helps_while_much_is_left() {
    let now = Instant::now();
    let mut view = spoke("a", &["a", "b", "c"], now);
    assert_eq!(view.reasons(now), [Reason::Own], "as long as the owners get on");
    let now = now + LEAST_PATIENCE;
    assert_eq!(view.reasons(now), [Reason::Own, Reason::Surplus]);
    let help = fetchable(&view, Reason::Surplus, now);
    assert!(!help.is_empty() && help.iter().all(|chunk| !fetchable(&view, Reason::Own, now).contains(chunk)));
    let most: Vec<usize> = (0..CHUNKS - SURPLUS).collect();
    view.hear(&name("b"), having(&most), now);
    assert_eq!(view.reasons(now), [Reason::Own], "the rest is begun with already");
}

#[test]
fn a_peer_is_asked_for_a_few_things_at_once_and_only_for_what_it_has_all_of() {
    let now = Instant::now();
    let mut view = spoke("a", &["a", "b"], now);
    let b = name("b");
    view.hear(&b, having(&[7]), now);
    assert_eq!(view.holder(7..9, now), None, "it has the first of the two");
    assert!(!view.has(&b, &(7..9)) && view.has(&b, &(7..8)));
    (0..READS).for_each(|_| view.begin_read(&b));
    assert_eq!(view.holder(7..8, now), None, "it is at work");
    view.end_read(&b);
    assert_eq!(view.holder(7..8, now), Some(&b));
}

#[test]
fn a_peer_that_was_of_no_use_rests_and_what_it_has_comes_from_elsewhere_meanwhile() {
    let now = Instant::now();
    let failed = || PeerTrouble::Failed("it ended early".to_owned());
    let absent = PeerTrouble::Absent("nothing here".to_owned());
    for (trouble, later, rest) in [
        (PeerTrouble::Slow, None, REST_SLOW),
        (PeerTrouble::Slow, Some(failed()), REST_SLOW),
        (failed(), None, REST),
        (absent, None, REST),
    ] {
        let mut view = spoke("a", &["a", "b", "c"], now);
        let (b, c) = (name("b"), name("c"));
        let own = fetchable(&view, Reason::Own, now)[0];
        view.hear(&b, having(&[own]), now);
        assert!(!fetchable(&view, Reason::Own, now).contains(&own), "it is read from its holder");
        view.blame(&b, &trouble, now);
        later.iter().for_each(|later| view.blame(&b, later, now));
        let almost = now + rest - Duration::from_millis(1);
        assert_eq!(view.holder(own..own + 1, almost), None, "{trouble}");
        assert!(fetchable(&view, Reason::Own, almost).contains(&own), "it would be waited for: {trouble}");
        assert_eq!(view.holder(own..own + 1, now + rest), Some(&b), "{trouble}");
        view.hear(&c, having(&[own]), now);
        assert_eq!(view.holder(own..own + 1, almost), Some(&c), "who is not to blame is asked: {trouble}");
    }
    assert!(REST < REST_SLOW);
}

#[test]
fn who_fetches_keeps_its_share_and_who_stopped_does_not() {
    let start = Instant::now();
    let mut view = spoke("a", &["a", "b"], start);
    let later = start + EXPECTED;
    assert!(fetchable(&view, Reason::Own, later).len() < CHUNKS, "it said that it fetches");
    view.hear(&name("b"), Told { fetching: false, ..nothing() }, later);
    assert_eq!(fetchable(&view, Reason::Own, later).len(), CHUNKS);
}

#[test]
fn what_is_held_up_is_taken_over_by_one_after_the_other() {
    let names = ["a", "b", "c", "d"];
    let start = Instant::now();
    let views = names.map(|me| spoke(me, &names, start));
    let takers = |times: u32| {
        let then = start + views[0].patience() * times;
        let mut takers = vec![0; CHUNKS];
        for view in &views {
            fetchable(view, Reason::Held, then).into_iter().for_each(|chunk| takers[chunk] += 1);
        }
        takers
    };
    assert_eq!(takers(1), [2; CHUNKS], "the owner, and the next one");
    assert_eq!((takers(2), takers(3)), (vec![3; CHUNKS], vec![4; CHUNKS]));
}

#[test]
fn patience_is_some_chunks_time_within_bounds() {
    let start = Instant::now();
    let holds_up = |paced: Duration, quiet: Duration| {
        let mut view = spoke("a", &["a", "b"], start);
        (0..200).for_each(|_| view.paced(paced));
        view.reasons(start + quiet).contains(&Reason::Held)
    };
    let (second, instant) = (Duration::from_secs(1), Duration::from_millis(1));
    for (paced, patience) in
        [(instant, LEAST_PATIENCE), (2 * second, 6 * second), (3_600 * second, MOST_PATIENCE)]
    {
        let close = Duration::from_millis(10);
        assert!(!holds_up(paced, patience - close), "{paced:?}");
        assert!(holds_up(paced, patience + close), "{paced:?}");
    }
}

#[test]
fn a_chunk_that_came_is_claimed_no_more_and_the_site_got_on() {
    let start = Instant::now();
    let mut view = spoke("a", &["a", "b"], start);
    view.claim(3, true);
    assert!(view.told().claimed.get(3));
    let later = start + view.patience();
    assert!(view.reasons(later).contains(&Reason::Held));
    view.verify(3, later);
    let told = view.told();
    assert_eq!((told.claimed.count(), told.verified.count(), told.verified.get(3)), (0, 1, true));
    assert_eq!(view.reasons(later), [Reason::Own], "something moved");
}
