//! The simulated server's system view and clocks, which tests can change.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use openai_secrets::engine::time::clock::{Clock, WallClock};
use openai_secrets::logical::{Event, FixedSystem, ReplicationState, SystemError, SystemView};

/// Maximum number of remembered events.
const EVENTS: usize = 1_000;

/// A configurable system view that remembers events.
#[derive(Debug, Default)]
pub struct TestSystem {
    state: Mutex<State>,
}

/// The clocks of the machine with offsets. Passing time moves both clocks; a wrong setting moves only the wall clock.
#[derive(Default)]
pub struct TestClock {
    ahead: Mutex<TimeDelta>,
    passed: Mutex<Duration>,
    /// Receives the passing time.
    others: Mutex<Option<Moves>>,
}

/// A function that moves another clock ahead.
type Moves = Box<dyn Fn(Duration) + Send + Sync>;

#[derive(Debug, Default)]
struct State {
    system: FixedSystem,
    local_mount: bool,
    tainted: bool,
    events: VecDeque<Event>,
    /// Mount points and paths of deregistered rotation jobs.
    deregistered: Vec<(String, String)>,
    rotation_manager_fails: bool,
    /// Names of entities by their ids.
    entities: BTreeMap<String, String>,
}

impl TestSystem {
    /// Adds an identity entity.
    pub fn add_entity(&self, id: &str, name: &str) {
        self.state.lock().unwrap().entities.insert(id.to_owned(), name.to_owned());
    }

    /// Makes the node a performance standby, or the active node again.
    pub fn set_performance_standby(&self, standby: bool) {
        self.state.lock().unwrap().system.replication_state = ReplicationState(u32::from(standby) << 14);
    }

    /// Makes the cluster a performance secondary, or a primary again.
    pub fn set_performance_secondary(&self, secondary: bool) {
        self.state.lock().unwrap().system.replication_state = ReplicationState(u32::from(secondary) << 6);
    }

    /// Makes the cluster a performance primary, or ends its replication.
    pub fn set_performance_primary(&self, primary: bool) {
        self.state.lock().unwrap().system.replication_state = ReplicationState(u32::from(primary) << 5);
    }

    /// The rotation jobs that were deregistered since the last call of this function.
    pub fn take_deregistered(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.state.lock().unwrap().deregistered)
    }

    /// Makes the rotation manager fail or work.
    pub fn fail_rotation_manager(&self, fails: bool) {
        self.state.lock().unwrap().rotation_manager_fails = fails;
    }

    /// Makes the mount local to its cluster, or replicated.
    pub fn set_local_mount(&self, local: bool) {
        self.state.lock().unwrap().local_mount = local;
    }

    /// Starts or ends the unmounting of the mount.
    pub fn set_tainted(&self, tainted: bool) {
        self.state.lock().unwrap().tainted = tainted;
    }

    /// Sets the mount's maximum lease TTL.
    pub fn set_max_lease_ttl(&self, ttl: Duration) {
        self.state.lock().unwrap().system.max_lease_ttl = ttl;
    }

    /// Sets the mount's default lease TTL.
    pub fn set_default_lease_ttl(&self, ttl: Duration) {
        self.state.lock().unwrap().system.default_lease_ttl = ttl;
    }

    /// The latest events, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.state.lock().unwrap().events.iter().cloned().collect()
    }

    /// Forgets events and deregistered rotation jobs.
    pub fn forget_past(&self) {
        let mut state = self.state.lock().unwrap();
        state.events = VecDeque::new();
        state.deregistered = Vec::new();
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
    async fn entity_name(&self, entity_id: &str) -> Result<String, SystemError> {
        Ok(self.state.lock().unwrap().entities.get(entity_id).cloned().unwrap_or_default())
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
    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.put_ahead(by);
        self.advance_monotonic(by);
        if let Some(moves) = &*self.others.lock().unwrap() {
            moves(by);
        }
    }

    /// Lets time pass that the wall clock does not show.
    pub fn advance_monotonic(&self, by: Duration) {
        *self.passed.lock().unwrap() += by;
    }

    /// Moves another clock along with this one.
    pub fn link(&self, moves: impl Fn(Duration) + Send + Sync + 'static) {
        *self.others.lock().unwrap() = Some(Box::new(moves));
    }

    /// Moves the wall clock ahead.
    pub fn put_ahead(&self, by: Duration) {
        *self.ahead.lock().unwrap() += TimeDelta::from_std(by).expect("the time is in range");
    }

    /// Moves the wall clock back.
    pub fn move_back(&self, by: Duration) {
        *self.ahead.lock().unwrap() -= TimeDelta::from_std(by).expect("the time is in range");
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

    /// Lets the time pass at once, unless another waiter has done so meanwhile.
    async fn pause(&self, time: Duration) {
        let end = self.monotonic() + time;
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.advance(end.saturating_sub(self.monotonic()));
    }
}
