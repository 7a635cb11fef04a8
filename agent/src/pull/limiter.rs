//! What all pulls of a spoke share: the site's bandwidth, its windows, and the number of ranges in flight. Whoever has
//! the better rank goes first: a version to be served before one to be had in time, a small one before a large one.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{Gate, Limits, Priority, adaptive::Adaptive};

/// How much may come at once after a pause: a tenth of a second's worth.
const BURST_SECONDS: f64 = 0.1;
/// Ranges that a bandwidth limit is shared by: one for each this many bytes a second. More of them would each fill
/// buffers that the limit does not see.
const RATE_PER_RANGE: u64 = 512 << 10;
/// How often the wall clock is looked at while a window is waited for: it may be set.
const CLOCK_CHECK: Duration = Duration::from_secs(20);

/// Who goes first. The order of the fields is the order of importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) priority: Priority,
    /// Bytes of the version.
    pub(super) size: u64,
}

/// Shared by every pull of a spoke.
#[derive(Debug)]
pub struct Limiter {
    state: Mutex<State>,
    changed: Notify,
    max_ranges: u32,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    gate: Option<(Gate, Instant)>,
    tokens: f64,
    filled: Instant,
    adaptive: Adaptive,
    observed: Instant,
    in_flight: u32,
    next_ticket: u64,
    for_slot: BTreeSet<(Rank, u64)>,
    for_bytes: BTreeSet<(Rank, u64)>,
}

/// Which queue a ticket stands in.
#[derive(Clone, Copy, Debug)]
enum Queue {
    Slot,
    Bytes,
}

impl State {
    fn queue(&mut self, queue: Queue) -> &mut BTreeSet<(Rank, u64)> {
        match queue {
            Queue::Slot => &mut self.for_slot,
            Queue::Bytes => &mut self.for_bytes,
        }
    }

    /// Whether the site's windows are open, worked out when it may have changed and not for every piece of a body.
    fn gate(&mut self) -> Gate {
        let now = Timestamp::now();
        if let Some((gate, asked)) = self.gate
            && asked.elapsed() < CLOCK_CHECK
        {
            let (Gate::Open(until) | Gate::Closed(until)) = gate;
            if until.is_none_or(|until| now < until) {
                return gate;
            }
        }
        let gate = self.limits.gate(now);
        self.gate = Some((gate, Instant::now()));
        gate
    }

    fn allowed(&self) -> u32 {
        match self.limits.max_bytes_per_second {
            None => self.adaptive.allowed(),
            Some(rate) => {
                let few = u32::try_from(rate / RATE_PER_RANGE).unwrap_or(u32::MAX).max(1);
                few.min(self.adaptive.allowed())
            }
        }
    }

    /// How long until there is something to spend; zero = now.
    fn wait(&mut self, now: Instant) -> Duration {
        let Some(rate) = self.limits.max_bytes_per_second else { return Duration::ZERO };
        let rate = rate.max(1) as f64;
        self.tokens += now.duration_since(self.filled).as_secs_f64() * rate;
        self.tokens = self.tokens.min(rate * BURST_SECONDS);
        self.filled = now;
        if self.tokens >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.tokens / rate) }
    }
}

/// A place among the ranges in flight; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    limiter: &'a Limiter,
}

/// A place in a queue; left when dropped, so that a pull that is cancelled blocks nobody.
struct Ticket<'a> {
    limiter: &'a Limiter,
    queue: Queue,
    key: (Rank, u64),
}

impl Limiter {
    /// A limiter without limits but the number of ranges.
    pub fn new(max_ranges: u32) -> Self {
        let now = Instant::now();
        let state = State {
            limits: Limits::default(),
            gate: None,
            tokens: 0.0,
            filled: now,
            adaptive: Adaptive::new(max_ranges),
            observed: now,
            in_flight: 0,
            next_ticket: 0,
            for_slot: BTreeSet::new(),
            for_bytes: BTreeSet::new(),
        };
        Self { state: Mutex::new(state), changed: Notify::new(), max_ranges: max_ranges.max(1) }
    }

    /// Replaces the site's limits; running pulls obey at once.
    pub fn set_limits(&self, limits: &Limits) {
        let mut state = self.lock();
        if state.limits != *limits {
            state.limits = limits.clone();
            state.gate = None;
            state.tokens = 0.0;
            state.filled = Instant::now();
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// The most ranges that are ever in flight.
    pub(super) const fn max_ranges(&self) -> u32 {
        self.max_ranges
    }

    /// The site's bandwidth in bytes a second, if it is limited.
    pub(super) fn rate(&self) -> Option<u64> {
        self.lock().limits.max_bytes_per_second
    }

    /// Ranges in flight now.
    pub(super) fn in_flight(&self) -> u32 {
        self.lock().in_flight
    }

    /// The server said that it is overloaded.
    pub(super) fn throttled(&self) {
        self.lock().adaptive.throttled();
    }

    /// Whether another range could begin now.
    pub(super) fn has_room(&self) -> bool {
        let mut state = self.lock();
        matches!(state.gate(), Gate::Open(_)) && state.in_flight < state.allowed()
    }

    /// Waits until another range could begin.
    pub(super) async fn room(&self) {
        self.until(|state| match state.gate() {
            Gate::Open(_) if state.in_flight < state.allowed() => Err(()),
            Gate::Open(_) => Ok(None),
            Gate::Closed(until) => Ok(Some(clock_wait(until))),
        })
        .await;
    }

    /// Waits for a place among the ranges in flight.
    pub(super) async fn slot(&self, rank: Rank) -> Slot<'_> {
        let ticket = self.ticket(Queue::Slot, rank);
        self.until(|state| {
            let first = state.for_slot.first() == Some(&ticket.key);
            if first && state.in_flight < state.allowed() {
                state.in_flight += 1;
                return Err(Slot { limiter: self });
            }
            Ok(None)
        })
        .await
    }

    /// Takes note of bytes that came, and waits until the next may be read.
    pub(super) async fn spend(&self, rank: Rank, bytes: u64) {
        {
            let mut state = self.lock();
            let now = Instant::now();
            let (elapsed, busy) = (now - state.observed, state.in_flight >= state.allowed());
            state.observed = now;
            state.adaptive.observe(bytes, elapsed, busy);
            if state.limits.max_bytes_per_second.is_none() {
                return;
            }
            state.wait(now);
            state.tokens -= bytes as f64;
        }
        let ticket = self.ticket(Queue::Bytes, rank);
        self.until(|state| match state.wait(Instant::now()) {
            Duration::ZERO if state.for_bytes.first() == Some(&ticket.key) => Err(()),
            Duration::ZERO => Ok(None),
            wait => Ok(Some(wait)),
        })
        .await;
    }

    /// Whether weights may flow now.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.lock().gate(), Gate::Open(_))
    }

    /// Waits until weights may flow.
    pub(super) async fn open(&self) {
        self.until(|state| match state.gate() {
            Gate::Open(_) => Err(()),
            Gate::Closed(until) => Ok(Some(clock_wait(until))),
        })
        .await;
    }

    /// Waits until weights may no longer flow.
    pub(super) async fn closed(&self) {
        self.until(|state| match state.gate() {
            Gate::Closed(_) => Err(()),
            Gate::Open(None) => Ok(None),
            Gate::Open(until) => Ok(Some(clock_wait(until))),
        })
        .await;
    }

    /// Asks again whenever something changed, or after the time that the answer names. `Err` is the end.
    async fn until<T>(&self, mut ask: impl FnMut(&mut State) -> Result<Option<Duration>, T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let answer = ask(&mut self.lock());
            match answer {
                Err(end) => return end,
                Ok(None) => changed.await,
                Ok(Some(wait)) => either(changed, sleep(wait)).await,
            }
        }
    }

    fn ticket(&self, queue: Queue, rank: Rank) -> Ticket<'_> {
        let mut state = self.lock();
        let key = (rank, state.next_ticket);
        state.next_ticket += 1;
        state.queue(queue).insert(key);
        Ticket { limiter: self, queue, key }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.limiter.lock().in_flight -= 1;
        self.limiter.changed.notify_waiters();
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.limiter.lock().queue(self.queue).remove(&self.key);
        self.limiter.changed.notify_waiters();
    }
}

/// How long to sleep towards a moment of the wall clock.
fn clock_wait(until: Option<Timestamp>) -> Duration {
    let Some(until) = until else { return CLOCK_CHECK };
    let wait = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
    wait.min(CLOCK_CHECK)
}

async fn either(first: impl Future<Output = ()>, second: impl Future<Output = ()>) {
    tokio::select! {
        () = first => {}
        () = second => {}
    }
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;
