//! One call from arrival to outcome: limits, faults, the work, latency and the log.
//!
//! A call continues after its caller hangs up, as on a real server. This file knows no sockets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Settings;
use super::call::Call;
use super::clock::Clock;
use super::fault::When;
use super::reply::{Outcome, Reply};
use super::routes::Found;
use super::traffic::{Plan, Traffic};
use super::world::World;

/// State that all connections share. A lock is held for one access, never across a wait.
#[derive(Debug)]
pub struct Shared {
    /// The initial settings.
    pub settings: Settings,
    /// The clock.
    pub clock: Arc<Clock>,
    world: Mutex<World>,
    traffic: Mutex<Traffic>,
}

impl Shared {
    /// A simulator in its initial state.
    pub fn new(settings: Settings) -> Self {
        let clock = Arc::<Clock>::default();
        let world = Mutex::new(World::new(Arc::clone(&clock), &settings));
        let traffic = Mutex::new(Traffic::new(settings.latency));
        Self { settings, clock, world, traffic }
    }

    /// Returns to the initial state.
    pub fn reset(&self) {
        self.clock.reset();
        *self.world() = World::new(Arc::clone(&self.clock), &self.settings);
        *self.traffic() = Traffic::new(self.settings.latency);
    }

    /// Locks the world. A panic in another call leaves the world usable.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the rules and records.
    pub fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Processes a call.
    pub async fn exchange(self: Arc<Self>, mut call: Call) -> Outcome {
        let found = Found::by(&mut call);
        let arrived = self.traffic().arrive(&call, self.clock.now());
        let outcome = match arrived {
            Err(refused) => Outcome::Complete(refused),
            Ok(plan) => self.carry_out(plan, found, &call).await,
        };
        self.traffic().leave(found.name(), &call, &outcome, self.clock.now());
        outcome.dated(self.clock.now())
    }

    async fn carry_out(&self, plan: Plan, found: Found, call: &Call) -> Outcome {
        pause(plan.wait_before).await;
        let outcome = match plan.fault {
            Some((When::Before, action)) => action.outcome(None),
            Some((When::After, action)) => action.outcome(Some(self.work(found, call))),
            None => Outcome::Complete(self.work(found, call)),
        };
        pause(plan.wait_after).await;
        outcome
    }

    fn work(&self, found: Found, call: &Call) -> Reply {
        let result = found.answer(&mut self.world(), call);
        Reply::of(result)
    }
}

/// A zero wait needs no timer.
async fn pause(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}
