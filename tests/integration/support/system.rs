//! The server around the mount: what its system view says, and what time it is; a test can change both.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use openai_secrets::engine::clock::{Clock, WallClock};
use openai_secrets::logical::{Event, FixedSystem, ReplicationState, SystemError, SystemView};

/// How many events are remembered.
const EVENTS: usize = 1_000;

/// A system view that can be told to change, and remembers events.
#[derive(Debug, Default)]
pub struct TestSystem {
    state: Mutex<State>,
}

/// The machine's clocks, as far ahead as a test wants them: time that passes moves both, a wrong setting only the one
/// that people set.
#[derive(Default)]
pub struct TestClock {
    ahead: Mutex<TimeDelta>,
    passed: Mutex<Duration>,
    /// Told of time that passes.
    others: Mutex<Option<Moves>>,
}

/// Moves another clock ahead.
type Moves = Box<dyn Fn(Duration) + Send + Sync>;

#[derive(Debug, Default)]
struct State {
    system: FixedSystem,
    local_mount: bool,
    tainted: bool,
    events: VecDeque<Event>,
    /// Mount points and paths whose rotation jobs were taken away.
    deregistered: Vec<(String, String)>,
    rotation_manager_fails: bool,
}

impl TestSystem {
    /// This node is now a performance standby, or the active node again.
    pub fn set_performance_standby(&self, standby: bool) {
        self.state.lock().unwrap().system.replication_state = ReplicationState(u32::from(standby) << 14);
    }

    /// This cluster is now a performance secondary, or a primary again.
    pub fn set_performance_secondary(&self, secondary: bool) {
        self.state.lock().unwrap().system.replication_state = ReplicationState(u32::from(secondary) << 6);
    }

    /// This cluster is now a performance primary, or not replicated again.
    pub fn set_performance_primary(&self, primary: bool) {
        self.state.lock().unwrap().system.replication_state = ReplicationState(u32::from(primary) << 5);
    }

    /// Where rotation jobs were taken away from the rotation manager, since this was asked last.
    pub fn take_deregistered(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.state.lock().unwrap().deregistered)
    }

    /// The rotation manager fails, or no longer.
    pub fn fail_rotation_manager(&self, fails: bool) {
        self.state.lock().unwrap().rotation_manager_fails = fails;
    }

    /// The mount is local to its cluster.
    pub fn set_local_mount(&self, local: bool) {
        self.state.lock().unwrap().local_mount = local;
    }

    /// The mount is being unmounted, or no longer.
    pub fn set_tainted(&self, tainted: bool) {
        self.state.lock().unwrap().tainted = tainted;
    }

    /// The mount was tuned.
    pub fn set_max_lease_ttl(&self, ttl: Duration) {
        self.state.lock().unwrap().system.max_lease_ttl = ttl;
    }

    /// The mount's default lease time was tuned.
    pub fn set_default_lease_ttl(&self, ttl: Duration) {
        self.state.lock().unwrap().system.default_lease_ttl = ttl;
    }

    /// The latest events, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.state.lock().unwrap().events.iter().cloned().collect()
    }

    /// No event was sent so far.
    pub fn forget_events(&self) {
        self.state.lock().unwrap().events = VecDeque::new();
    }

    fn now(&self) -> FixedSystem {
        self.state.lock().unwrap().system.clone()
    }
}

#[async_trait]
impl SystemView for TestSystem {
    async fn default_lease_ttl(&self) -> Result<Duration, SystemError> {
        self.now().default_lease_ttl().await
    }
    async fn max_lease_ttl(&self) -> Result<Duration, SystemError> {
        self.now().max_lease_ttl().await
    }
    async fn tainted(&self) -> Result<bool, SystemError> {
        Ok(self.state.lock().unwrap().tainted)
    }
    async fn local_mount(&self) -> Result<bool, SystemError> {
        Ok(self.state.lock().unwrap().local_mount)
    }
    async fn replication_state(&self) -> Result<ReplicationState, SystemError> {
        self.now().replication_state().await
    }
    async fn vault_version(&self) -> Result<String, SystemError> {
        self.now().vault_version().await
    }
    async fn send_event(&self, event: Event) -> Result<(), SystemError> {
        let events = &mut self.state.lock().unwrap().events;
        if events.len() == EVENTS {
            events.pop_front();
        }
        events.push_back(event);
        Ok(())
    }
    async fn deregister_rotation_job(&self, mount_point: &str, path: &str) -> Result<(), SystemError> {
        let mut state = self.state.lock().unwrap();
        if state.rotation_manager_fails {
            return Err(SystemError("error deregistering rotation job".to_owned()));
        }
        state.deregistered.push((mount_point.to_owned(), path.to_owned()));
        Ok(())
    }
}

impl TestClock {
    /// Time passes.
    pub fn advance(&self, by: Duration) {
        self.put_ahead(by);
        *self.passed.lock().unwrap() += by;
        if let Some(moves) = &*self.others.lock().unwrap() {
            moves(by);
        }
    }

    /// Another clock goes with this one.
    pub fn link(&self, moves: impl Fn(Duration) + Send + Sync + 'static) {
        *self.others.lock().unwrap() = Some(Box::new(moves));
    }

    /// The clock is set wrong: ahead.
    pub fn put_ahead(&self, by: Duration) {
        *self.ahead.lock().unwrap() += TimeDelta::from_std(by).expect("a test is over before that");
    }

    /// The clock was wrong and is put right.
    pub fn move_back(&self, by: Duration) {
        *self.ahead.lock().unwrap() -= TimeDelta::from_std(by).expect("a test is over before that");
    }
}

impl std::fmt::Debug for TestClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestClock").finish_non_exhaustive()
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + *self.ahead.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        WallClock.monotonic() + *self.passed.lock().unwrap()
    }

    /// Who waits has the time pass, unless it has passed meanwhile for another who waits.
    async fn pause(&self, time: Duration) {
        let end = self.monotonic() + time;
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.advance(end.saturating_sub(self.monotonic()));
    }
}
