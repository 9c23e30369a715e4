//! A strict, stateful simulator of OpenAI's Admin API, for tests and the demo.
//!
//! It refuses what OpenAI refuses, remembers what it was asked to make, lets keys expire by the clock, and goes wrong
//! on demand. It is no part of the plugin. Tests include this file and start a [`Simulator`]; the example binary
//! `openai-simulator` is the same behind flags. What it knows of OpenAI is in the resource files ([`accounts`],
//! [`keys`], [`admin_keys`], [`projects`], [`costs`]); the way of a call is [`server`], [`exchange`], [`routes`].
#![allow(dead_code, unreachable_pub, reason = "every binary that includes this uses a part of it")]

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
mod state;
mod tls;
mod traffic;
mod world;

use self::exchange::Shared;
#[allow(unused_imports, reason = "see above")]
pub use self::{
    fault::{Action, Fault, When},
    lag::Lag,
    limit::{Limit, Per, Retry},
    routes::endpoint,
    state::{AccountState, AdminKeyState, KeyState, State},
    tls::Tls,
    traffic::Logged,
    world::{Policy, Tally},
};

/// How a simulator starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The first admin key.
    pub admin_key: String,
    /// The organization.
    pub organization: String,
    /// The projects there are at first; at least one.
    pub projects: Vec<String>,
    /// How long every call takes.
    pub latency: Duration,
    /// How far it lags behind itself; not at all if there is none.
    pub lag: Option<Lag>,
    /// HTTPS instead of HTTP.
    pub tls: Option<Tls>,
}

/// A running simulator; it stops when this is dropped.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    authority: Option<String>,
    stop: CancellationToken,
}

/// A service account that was there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeded {
    /// Its id.
    pub id: String,
    /// Its key's id and value, if it has one.
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
    /// Starts on the current runtime.
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
    /// Starts with one project on a free port of loopback.
    pub async fn start() -> Self {
        match Settings::default().start().await {
            Ok(simulator) => simulator,
            Err(error) => panic!("no simulator on loopback: {error}"),
        }
    }

    /// What a client takes for OpenAI's base URL.
    pub fn url(&self) -> String {
        format!("{}/v1", self.origin())
    }

    /// Scheme, address and port; `/_sim/` is below it.
    pub fn origin(&self) -> String {
        let scheme = if self.shared.settings.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", reachable(self.address))
    }

    /// The authority to trust, as PEM, if one was made for it.
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

    /// What is there now.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// All calls to an endpoint so far.
    pub fn calls(&self, endpoint: &str) -> u64 {
        self.state().calls(endpoint)
    }

    /// The last calls in the order in which they ended.
    pub fn log(&self) -> Vec<Logged> {
        self.shared.traffic().log()
    }

    /// The log is empty.
    pub fn forget_log(&self) {
        self.shared.traffic().forget_log();
    }

    /// Adds a fault; the number is for [`Simulator::remove_fault`].
    pub fn fault(&self, fault: Fault) -> u64 {
        self.shared.traffic().add_fault(fault)
    }

    /// Takes one fault away; false if it is not there any more.
    pub fn remove_fault(&self, number: u64) -> bool {
        self.shared.traffic().remove_fault(number)
    }

    /// Takes every fault away.
    pub fn clear_faults(&self) {
        self.shared.traffic().clear_faults();
    }

    /// Sets a limit, in place of one about the same calls.
    pub fn limit(&self, limit: Limit) {
        self.shared.traffic().set_limit(limit);
    }

    /// Takes every limit away.
    pub fn clear_limits(&self) {
        self.shared.traffic().clear_limits();
    }

    /// How long every call takes from now on.
    pub fn latency(&self, latency: Duration) {
        self.shared.traffic().set_latency(latency);
    }

    /// From now on it lags so far behind itself, or not at all.
    pub fn lag(&self, lag: Option<Lag>) {
        self.shared.world().lag = lag;
    }

    /// Moves the simulator's clock back, at most to the machine's.
    pub fn move_back(&self, by: Duration) {
        self.shared.clock.move_back(by);
    }

    /// Moves the simulator's clock ahead: keys expire, limits open.
    pub fn advance(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// The same, for a clock that it shall go with.
    pub fn clock_mover(&self) -> impl Fn(Duration) + Send + Sync + 'static {
        let clock = Arc::clone(&self.shared.clock);
        move |by| clock.advance(by)
    }

    /// What the organization demands of new keys.
    pub fn policy(&self, policy: Policy) {
        self.shared.world().policy = policy;
    }

    /// Makes an account as if it had been there before, with a key or without; the error is a sentence.
    pub fn seed_account(&self, project: &str, name: &str, with_key: bool) -> Result<Seeded, String> {
        self.shared.seed(project, name, with_key)
    }

    /// Makes a key on an account as if somebody else had: its id and its value.
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

    /// One more project.
    pub fn add_project(&self, id: &str) {
        self.shared.world().add_project(id.to_owned(), None);
    }

    /// Archives a project, with all its accounts.
    pub fn archive_project(&self, id: &str) {
        projects::archive_by_id(&mut self.shared.world(), id);
    }

    /// How many faults there are that have not hit as often as they shall.
    pub fn faults_left(&self) -> usize {
        self.shared.traffic().faults()
    }

    /// Spends a project's money now.
    pub fn spend(&self, project: &str, amount: f64) {
        self.shared.spend(project, amount);
    }

    /// As new: accounts, keys, counters, faults, limits and time are as they were at the start.
    pub fn reset(&self) {
        self.shared.reset();
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Where a listener on all addresses is reached from this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
