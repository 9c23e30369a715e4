//! A strict, stateful simulator of OpenAI's Admin API, for tests and the demo.
//!
//! The simulator refuses what OpenAI refuses, stores created objects, expires keys by its clock, and fails on demand.
//! The simulator is no part of the plugin. Tests start a [`Simulator`]; the binary `openai-simulator` adds flags.
//! The resource files hold the knowledge about OpenAI: `accounts`, `keys`, `admin_keys`, `projects`, `costs`,
//! `federation`, `token_exchange`. A call passes through `server`, `exchange` and `routes`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod accounts;
mod admin_keys;
mod auth;
mod call;
mod clock;
mod control;
mod costs;
mod exchange;
mod fault;
mod federation;
mod id;
mod input;
mod keys;
mod lag;
mod limit;
mod models;
mod page;
mod projects;
mod refusal;
mod reply;
mod routes;
mod server;
mod signatures;
mod state;
mod tls;
mod token_exchange;
mod traffic;
mod world;

use self::exchange::Shared;
pub use self::{
    fault::{Action, Fault, When},
    federation::Federation,
    lag::Lag,
    limit::{Limit, Per, Retry},
    routes::endpoint,
    state::{AccountState, AdminKeyState, KeyState, ProviderState, RuleState, State},
    tls::{Certificate, Tls},
    traffic::Logged,
    world::{Policy, Tally},
};

/// Initial settings of a simulator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Listen address; port 0 selects a free port.
    pub listen: SocketAddr,
    /// The first admin key.
    pub admin_key: String,
    /// The organization.
    pub organization: String,
    /// Ids of the initial projects; at least one.
    pub projects: Vec<String>,
    /// Latency of every call.
    pub latency: Duration,
    /// Propagation delays; none without a value.
    pub lag: Option<Lag>,
    /// TLS settings; plain HTTP without a value.
    pub tls: Option<Tls>,
}

/// A running simulator. It stops on drop.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    authority: Option<String>,
    stop: CancellationToken,
}

/// An account that a test created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeded {
    /// Id.
    pub id: String,
    /// Id and value of the account's key, if any.
    pub key: Option<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin_key: id::key_value("sk-admin"),
            organization: format!("org-{}", id::random(24)),
            projects: vec![format!("proj_{}", id::random(24))],
            latency: Duration::ZERO,
            lag: None,
            tls: None,
        }
    }
}

impl Settings {
    /// Starts the simulator on the current runtime.
    pub async fn start(self) -> io::Result<Simulator> {
        let tls = self.tls.as_ref().map(Tls::ready).transpose()?;
        let (acceptor, authority) = tls.map_or((None, None), |tls| (Some(tls.acceptor), tls.authority));
        let listener = TcpListener::bind(self.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(self));
        let stop = CancellationToken::new();
        tokio::spawn(server::accept(listener, acceptor, Arc::clone(&shared), stop.clone()));
        Ok(Simulator { shared, address, authority, stop })
    }
}

impl Simulator {
    /// Starts with one project on a free loopback port.
    pub async fn start() -> Self {
        match Settings::default().start().await {
            Ok(simulator) => simulator,
            Err(error) => panic!("no simulator on loopback: {error}"),
        }
    }

    /// The base URL for clients.
    pub fn url(&self) -> String {
        format!("{}/v1", self.origin())
    }

    /// The URL of the token exchange.
    pub fn token_url(&self) -> String {
        format!("{}/oauth/token", self.origin())
    }

    /// Scheme, address and port; `/_sim/` is below this URL.
    pub fn origin(&self) -> String {
        let scheme = if self.shared.settings.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", reachable(self.address))
    }

    /// Certificate of the generated CA in PEM, if any.
    pub fn ca_pem(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The first admin key.
    pub fn admin_key(&self) -> &str {
        &self.shared.settings.admin_key
    }

    /// The organization.
    pub fn organization(&self) -> &str {
        &self.shared.settings.organization
    }

    /// The first project.
    pub fn project(&self) -> &str {
        self.shared.settings.projects.first().map_or("", String::as_str)
    }

    /// The current state.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Number of calls to an endpoint.
    pub fn calls(&self, endpoint: &str) -> u64 {
        self.state().calls(endpoint)
    }

    /// The latest calls, in the order of their ends.
    pub fn log(&self) -> Vec<Logged> {
        self.shared.traffic().log()
    }

    /// Empties the log.
    pub fn forget_log(&self) {
        self.shared.traffic().forget_log();
    }

    /// Adds a fault. The number identifies the fault for [`Simulator::remove_fault`].
    pub fn fault(&self, fault: Fault) -> u64 {
        self.shared.traffic().add_fault(fault)
    }

    /// Removes one fault; false if the fault does not exist.
    pub fn remove_fault(&self, number: u64) -> bool {
        self.shared.traffic().remove_fault(number)
    }

    /// Removes every fault.
    pub fn clear_faults(&self) {
        self.shared.traffic().clear_faults();
    }

    /// Sets a limit. It replaces a limit for the same calls.
    pub fn limit(&self, limit: Limit) {
        self.shared.traffic().set_limit(limit);
    }

    /// Removes every limit.
    pub fn clear_limits(&self) {
        self.shared.traffic().clear_limits();
    }

    /// Sets the latency of every call.
    pub fn latency(&self, latency: Duration) {
        self.shared.traffic().set_latency(latency);
    }

    /// Sets the propagation delays. Returns the delays before.
    pub fn lag(&self, lag: Option<Lag>) -> Option<Lag> {
        std::mem::replace(&mut self.shared.world().lag, lag)
    }

    /// Ends the lag of all objects that exist or were deleted. The clock stays.
    pub fn catch_up(&self) {
        self.shared.world().catch_up();
    }

    /// Moves the simulator's clock back, at most to the time of this machine.
    pub fn move_back(&self, by: Duration) {
        self.shared.clock.move_back(by);
    }

    /// Moves the simulator's clock ahead: keys expire, rate limits open.
    pub fn advance(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// A function that moves the simulator's clock ahead.
    pub fn clock_mover(&self) -> impl Fn(Duration) + Send + Sync + 'static {
        let clock = Arc::clone(&self.shared.clock);
        move |by| clock.advance(by)
    }

    /// Sets the organization's policy for new keys.
    pub fn policy(&self, policy: Policy) {
        self.shared.world().policy = policy;
    }

    /// Sets what OpenAI's documents leave open about federation.
    pub fn federation(&self, switches: Federation) {
        self.shared.world().federated.switches = switches;
    }

    /// Creates an account with or without a key. Lag does not apply to the account. The error is a sentence.
    pub fn seed_account(&self, project: &str, name: &str, with_key: bool) -> Result<Seeded, String> {
        self.shared.seed(project, name, with_key)
    }

    /// Creates a key on an account; answers its id and value.
    pub fn seed_key(&self, service_account_id: &str, name: &str) -> Option<(String, String)> {
        let mut world = self.shared.world();
        let account = world.accounts.iter().find(|(_, account)| account.id == service_account_id);
        let serial = *account?.0;
        world
            .add_key(serial, name.to_owned(), Vec::new(), None)
            .map(|key| (key.id.clone(), key.value.clone()))
    }

    /// Makes a service account the owner of every admin key.
    pub fn own_admin_keys(&self, service_account_id: &str) {
        for key in self.shared.world().admin_keys.values_mut() {
            key.owner = Some(service_account_id.to_owned());
        }
    }

    /// Adds an admin key without an end, as an owner of the organization does by hand.
    pub fn add_admin_key(&self) {
        self.shared.world().add_admin_key("by hand".to_owned(), id::key_value("sk-admin"), None);
    }

    /// Records a use of the key with this value, now.
    pub fn use_key(&self, value: &str) {
        let mut world = self.shared.world();
        let now = world.now();
        if let Some(key) = world.keys.values_mut().find(|key| key.value == value) {
            key.last_used_at = Some(now);
        }
    }

    /// Adds a project.
    pub fn add_project(&self, id: &str) {
        self.shared.world().add_project(id.to_owned(), None);
    }

    /// Archives a project and deletes its accounts.
    pub fn archive_project(&self, id: &str) {
        projects::archive_by_id(&mut self.shared.world(), id);
    }

    /// Number of faults that can still hit.
    pub fn faults_left(&self) -> usize {
        self.shared.traffic().faults()
    }

    /// Records spending of a project at the current time.
    pub fn spend(&self, project: &str, amount: f64) {
        self.shared.spend(project, Some(amount), None, None);
    }

    /// Records spending by a key of a service account.
    pub fn spend_by_key(&self, project: &str, api_key: &str, amount: f64) {
        self.shared.spend(project, Some(amount), Some(api_key.to_owned()), None);
    }

    /// Records spending by a user or a service account.
    pub fn spend_by_user(&self, project: &str, user: &str, amount: f64) {
        self.shared.spend(project, Some(amount), None, Some(user.to_owned()));
    }

    /// Records spending whose amount OpenAI sends as null.
    pub fn spend_unknown(&self, project: &str) {
        self.shared.spend(project, None, None, None);
    }

    /// Makes a project the organization's default one, to which no service account can be added.
    pub fn make_default(&self, project: &str) {
        self.shared.change_project(project, true, false).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Gives a project data residency at another host, or takes it away: every call about it is refused.
    pub fn move_elsewhere(&self, project: &str, is_elsewhere: bool) {
        self.shared.change_project(project, false, is_elsewhere).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Restricts every admin key so far to reading, or lifts that.
    pub fn restrict_admin_keys(&self, reads_only: bool) {
        self.shared.restrict_admin_keys(reads_only);
    }

    /// Returns to the initial state: accounts, keys, counters, faults, limits and time.
    pub fn reset(&self) {
        self.shared.reset();
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The loopback address for a listener on all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
