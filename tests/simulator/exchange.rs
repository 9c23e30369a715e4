//! One call from arrival to ending: limits and faults, the work, latency, the record.
//!
//! Runs on when the caller hangs up, as a real server would. Knows no sockets.

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

/// What all connections share. Each lock is held for one look or one change, never while waiting.
#[derive(Debug)]
pub struct Shared {
    /// How it started.
    pub settings: Settings,
    /// What time it is.
    pub clock: Arc<Clock>,
    world: Mutex<World>,
    traffic: Mutex<Traffic>,
}

impl Shared {
    /// As the settings say, and nothing has happened yet.
    pub fn new(settings: Settings) -> Self {
        let clock = Arc::<Clock>::default();
        let world = Mutex::new(World::new(Arc::clone(&clock), &settings));
        let traffic = Mutex::new(Traffic::new(settings.latency));
        Self { settings, clock, world, traffic }
    }

    /// As new.
    pub fn reset(&self) {
        self.clock.reset();
        *self.world() = World::new(Arc::clone(&self.clock), &self.settings);
        *self.traffic() = Traffic::new(self.settings.latency);
    }

    /// The world, locked. A panic of another call leaves it usable.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rules and records, locked.
    pub fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a call through.
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

/// A timer is worth arming for a wait only.
async fn pause(wait: Duration) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}
