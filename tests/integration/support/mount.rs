//! A mount in this process: the engine on in-memory storage, with a simulated OpenAI and a simulated server.
//!
//! Every response is checked. No error, warning, internal lease data, storage key, write-ahead entry or log line may
//! contain a key value. Storage contains key values only under seal wrap, and responses only in `api_key`. When the
//! mount is dropped, a lease or a storage entry must name every object at OpenAI.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use openai_secrets::engine::Engines;
use openai_secrets::engine::time::clock::Clock as _;
use openai_secrets::logical::{
    Answer, Backend, Data, Error, Factory, InMemory, Operation, Request, Setup, Storage, test_seed,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::document::Document;
use super::leases::LeaseStore;
use super::logs;
use super::secrets::Secrets;
use super::storage::{CrashPoint, Watched, Write};
use super::system::{TestClock, TestSystem};
use super::{Answered, Granted, windows};
use crate::simulator::{AccountState, Lag, Seeded, Settings, Simulator, State};

/// The project of [`Mount::with_project`].
pub const PROJECT: &str = "research";
/// The role of [`Mount::with_role`].
pub const ROLE: &str = "app";
/// An address without a listener. The system never assigns this port, so no other test can listen there.
pub const CLOSED_PORT: &str = "127.0.0.1:1";
/// A creation window is closed after this time.
const WINDOWS_ARE_CLOSED: Duration = Duration::from_secs(11);
/// The second look at a creation window of another process is due before this time.
const WINDOWS_ARE_OVER: Duration = Duration::from_secs(540);
/// Maximum lag of the simulated OpenAI.
const LAG_IS_OVER: Duration = Duration::from_secs(20);
/// Every mount has this entry from its first start on.
const STORAGE_VERSION: &str = "storage-version";
/// The mount's UUID.
const UUID: &str = "0f5a3b1e-7c2d-4e8f-9a6b-1c2d3e4f5a6b";

/// A mounted engine with its lease store and its OpenAI.
pub struct Mount {
    pub sim: Simulator,
    /// Storage of the mount.
    pub storage: Arc<InMemory>,
    /// The same storage, as the mount sees it.
    pub watched: Arc<Watched>,
    /// The server's system view.
    pub host: Arc<TestSystem>,
    clock: Arc<TestClock>,
    backend: Mutex<Arc<dyn Backend>>,
    leases: Mutex<LeaseStore>,
    secrets: Mutex<Secrets>,
    /// Accounts and keys of others. Nothing has to name them.
    foreign: Mutex<BTreeSet<String>>,
    /// The mount's OpenAPI document.
    document: OnceLock<Document>,
    abandoned: bool,
}

/// The identity of a caller, which `check-in` uses.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    mount: &'a Mount,
    entity: &'a str,
    token: &'a str,
}

impl Mount {
    /// A mount after `secrets enable`, with an OpenAI whose delays are realistic. For up to 20 s of simulated time a
    /// new object answers 404; a deleted object stays listed for some seconds.
    pub async fn start() -> Self {
        Self::before(Settings::default()).await
    }

    /// A mount with these simulator settings and the same delays.
    pub async fn before(settings: Settings) -> Self {
        let lag = Some(Lag { seed: test_seed(), ..Lag::default() });
        Self::with(Settings { lag, ..settings }.start().await.expect("a simulator on loopback")).await
    }

    async fn with(sim: Simulator) -> Self {
        logs::watch();
        let (storage, host) = (Arc::new(InMemory::new()), Arc::new(TestSystem::default()));
        let watched = Arc::new(Watched::new(Arc::clone(&storage)));
        let clock = Arc::new(TestClock::default());
        clock.link(sim.clock_mover());
        let backend = Mutex::new(set_up(&watched, &host, &clock));
        let mount = Self {
            sim,
            storage,
            watched,
            host,
            clock,
            backend,
            leases: Mutex::default(),
            secrets: Mutex::default(),
            foreign: Mutex::default(),
            document: OnceLock::new(),
            abandoned: false,
        };
        mount.backend().initialize().await.expect("a fresh mount initializes");
        let help = mount.help("").await;
        let document = mount.document.set(Document::of(&help.json()["openapi"]));
        document.expect("the document is set once");
        mount
    }

    /// Removes the delays of OpenAI, for tests that count calls or delete a new object without the mount.
    pub fn without_lag(self) -> Self {
        self.sim.lag(None);
        self
    }

    /// Configures the mount for the simulator.
    pub async fn configured(self) -> Self {
        self.write("config", self.config()).await.done();
        self
    }

    /// Adds the simulator's first project as `project/research`.
    pub async fn with_project(self) -> Self {
        let body = json!({"project_id": self.sim.project()});
        self.write(&format!("project/{PROJECT}"), body).await.done();
        self
    }

    /// Adds `roles/app`, in the project unless `role` names another.
    pub async fn with_role(self, mut role: Value) -> Self {
        if role.get("project").or(role.get("project_id")).is_none() {
            role["project"] = PROJECT.into();
        }
        self.write(&format!("roles/{ROLE}"), role).await.done();
        self
    }

    /// The data that [`Mount::configured`] writes.
    pub fn config(&self) -> Value {
        json!({
            "admin_api_key": self.sim.admin_key(),
            "organization_id": self.sim.organization(),
            "api_endpoint": self.sim.url(),
        })
    }

    /// Names another organization in the configuration.
    pub async fn configure_elsewhere(&self) {
        let mut config = self.config();
        config["organization_id"] = json!("org-other");
        config["verify_connection"] = json!(false);
        self.write("config", config).await.done();
    }

    /// Creates an account at OpenAI before the test, with or without a key.
    pub fn seed(&self, name: &str, with_key: bool) -> Seeded {
        self.seed_in(self.sim.project(), name, with_key)
    }

    /// Like [`Mount::seed`], in another project.
    pub fn seed_in(&self, project: &str, name: &str, with_key: bool) -> Seeded {
        let seeded = self.sim.seed_account(project, name, with_key).expect("a valid name");
        let mut foreign = self.foreign.lock().unwrap();
        foreign.insert(seeded.id.clone());
        foreign.extend(seeded.key.iter().map(|(id, _)| id.clone()));
        seeded
    }

    /// Marks an object at OpenAI as belonging to others.
    pub fn mark_foreign(&self, id: &str) {
        self.foreign.lock().unwrap().insert(id.to_owned());
    }

    /// Creates a key of others on an account; answers its id and value.
    pub fn seed_key(&self, account: &str, name: &str) -> (String, String) {
        let key = self.sim.seed_key(account, name).expect("the account is there");
        let mut foreign = self.foreign.lock().unwrap();
        foreign.extend([key.0.clone(), account.to_owned()]);
        key
    }

    /// Runs a call to OpenAI without the mount. For this call OpenAI finds every object, even a new one.
    pub async fn direct_call<T>(&self, call: impl Future<Output = T>) -> T {
        let lag = self.sim.lag(None);
        self.sim.lag(lag.map(|lag| Lag { get: false, post: false, delete: false, list: false, ..lag }));
        let answer = call.await;
        self.sim.lag(lag);
        answer
    }

    /// Deletes an object at OpenAI by its path, without the mount.
    pub async fn remove_at_openai(&self, path: &str) {
        let bearer = format!("Bearer {}", self.sim.admin_key());
        let headers = [("Authorization", bearer.as_str()), ("OpenAI-Organization", self.sim.organization())];
        let address = self.sim.origin().trim_start_matches("http://").parse().expect("an address");
        let path = format!("/v1{path}");
        let answer = self.direct_call(super::api::exchange(address, "DELETE", &path, &headers, None)).await;
        answer.expect("the simulator answers").ok();
    }

    /// Deletes a key of the project at OpenAI, without the mount.
    pub async fn remove_key_at_openai(&self, key: &str) {
        let path = format!("/organization/projects/{}/api_keys/{key}", self.sim.project());
        self.remove_at_openai(&path).await;
    }

    // === Requests ===

    /// A caller with this entity and token.
    pub fn as_caller<'a>(&'a self, entity: &'a str, token: &'a str) -> Caller<'a> {
        Caller { mount: self, entity, token }
    }

    pub async fn read(&self, path: &str) -> Answered {
        self.anybody().read(path).await
    }

    /// Reads with query fields.
    pub async fn read_with(&self, path: &str, data: Value) -> Answered {
        self.anybody().ask(Operation::Read, path, data).await
    }

    pub async fn write(&self, path: &str, data: Value) -> Answered {
        self.anybody().write(path, data).await
    }

    pub async fn patch(&self, path: &str, data: Value) -> Answered {
        self.anybody().ask(Operation::Patch, path, data).await
    }

    pub async fn delete(&self, path: &str) -> Answered {
        self.anybody().ask(Operation::Delete, path, json!({})).await
    }

    /// Deletes with `force=true`.
    pub async fn delete_by_force(&self, path: &str) -> Answered {
        self.anybody().ask(Operation::Delete, path, json!({"force": true})).await
    }

    /// Lists. The path gets a trailing `/` if it has none.
    pub async fn list(&self, path: &str) -> Answered {
        let path = format!("{}/", path.trim_end_matches('/'));
        self.anybody().ask(Operation::List, &path, json!({})).await
    }

    /// Help of a path, or of the mount for an empty path.
    pub async fn help(&self, path: &str) -> Answered {
        self.anybody().ask(Operation::Help, path, json!({})).await
    }

    /// The existence check of a write.
    pub async fn exists(&self, path: &str) -> Result<Option<bool>, Error> {
        self.backend().exists(self.request(Operation::Update, path, json!({}))).await
    }

    /// The server's tick, once a minute.
    pub async fn tick(&self) -> Answered {
        self.ask(self.request(Operation::Rollback, "", json!({}))).await
    }

    /// A tick after which every creation window so far is due, and that undoes write-ahead entries of any age.
    pub async fn tick_now(&self) -> Answered {
        self.advance_monotonic(WINDOWS_ARE_OVER);
        self.ask(self.request(Operation::Rollback, "", json!({"immediate": true}))).await
    }

    /// A tick that undoes write-ahead entries of any age. No time passes.
    pub async fn tick_immediately(&self) -> Answered {
        self.ask(self.request(Operation::Rollback, "", json!({"immediate": true}))).await
    }

    /// Closes every creation window and ticks. Answers the number of write-ahead entries that are left then.
    pub async fn entries_left(&self) -> usize {
        self.advance_monotonic(WINDOWS_ARE_CLOSED);
        drop(self.tick().await);
        self.stored("wal/").len()
    }

    /// Lets time pass that the wall clock does not show. OpenAI no longer lags after more than [`LAG_IS_OVER`].
    pub fn advance_monotonic(&self, by: Duration) {
        self.clock.advance_monotonic(by);
        if by > LAG_IS_OVER {
            self.sim.catch_up();
        }
    }

    /// Revokes a lease as the server does at expiry.
    pub async fn revoke(&self, lease: &Granted) -> Answered {
        let mut request = self.request(Operation::Revoke, path_of(lease), json!({}));
        request.secret = Some(lease.secret(Duration::ZERO));
        let answered = self.ask(request).await;
        if answered.answer.is_ok() {
            self.leases.lock().unwrap().remove(&lease.id);
        }
        answered
    }

    /// Renews a lease. The lease store then holds the new lease.
    pub async fn renew(&self, lease: &Granted, increment: Duration) -> Answered {
        let mut request = self.request(Operation::Renew, path_of(lease), json!({}));
        request.secret = Some(lease.secret(increment));
        let mut answered = self.ask(request).await;
        if let Ok(Some(response)) = &answered.answer
            && let Some(kept) = &response.lease
        {
            answered.lease = self.leases.lock().unwrap().renew(&lease.id, kept);
        }
        answered
    }

    /// The stored leases.
    pub fn leases(&self) -> Vec<Granted> {
        self.leases.lock().unwrap().all().cloned().collect()
    }

    /// Loses the server's record of a lease.
    pub fn lose(&self, lease: &Granted) {
        self.leases.lock().unwrap().remove(&lease.id);
    }

    /// Advances time for the engine and for OpenAI. Write-ahead entries use the wall clock: see [`Mount::tick_now`].
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Moves the engine's clock back, but not OpenAI's.
    pub fn put_clock_back(&self, by: Duration) {
        self.clock.move_back(by);
    }

    /// Moves all clocks back, including OpenAI's.
    pub fn put_clocks_back(&self, by: Duration) {
        self.clock.move_back(by);
        self.sim.move_back(by);
    }

    /// Moves the engine's wall clock ahead of OpenAI's clock and of the monotonic clock.
    pub fn put_clock_ahead(&self, by: Duration) {
        self.clock.put_ahead(by);
    }

    /// The engine's time.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Empties the test's records of events, calls and dead keys.
    pub fn forget_past(&self) {
        self.host.forget_past();
        self.sim.forget_log();
        *self.secrets() = Secrets::default();
    }

    /// Makes the cluster a performance secondary, which writes only local storage, or a primary again.
    pub fn set_secondary(&self, secondary: bool) {
        self.host.set_performance_secondary(secondary);
        let local = secondary.then(|| self.backend().special_paths().local_storage);
        self.watched.restrict_writes(local);
    }

    // === The mount's process ===

    /// Starts a new instance on the same storage, as after a crash.
    pub async fn restart(&self) {
        self.watched.recover();
        *self.backend.lock().unwrap() = set_up(&self.watched, &self.host, &self.clock);
        self.backend().initialize().await.expect("a restarted mount initializes");
    }

    /// Like [`Mount::restart`], for storage with which the mount may not initialize.
    pub async fn restart_anyway(&self) {
        self.watched.recover();
        *self.backend.lock().unwrap() = set_up(&self.watched, &self.host, &self.clock);
        // The log alone shows the error.
        let _ = self.backend().initialize().await;
    }

    /// Sends a request and kills the process at this write. Answers false if the request ended first.
    pub async fn killed(&self, request: Request, death: CrashPoint) -> bool {
        self.watched.crash_at(death);
        let backend = self.backend();
        let died = tokio::select! {
            answer = backend.handle(request.clone()) => {
                let _judged = self.check(&request, answer);
                false
            }
            () = self.watched.stopped() => true,
        };
        self.restart().await;
        died
    }

    /// The current instance.
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.backend.lock().unwrap())
    }

    /// A request as the server makes it, for [`Mount::ask`].
    pub fn request(&self, operation: Operation, path: &str, data: Value) -> Request {
        self.anybody().request(operation, path, data)
    }

    /// Sends this request.
    pub async fn ask(&self, request: Request) -> Answered {
        let answer = self.backend().handle(request.clone()).await;
        self.check(&request, answer)
    }

    fn anybody(&self) -> Caller<'_> {
        self.as_caller("", "token")
    }

    // === General checks ===

    /// Stores the lease of a response and runs the general checks.
    fn check(&self, request: &Request, answer: Answer) -> Answered {
        let name = format!("{:?} {}", request.operation, request.path);
        let state = self.learn();
        self.check_answer(&name, &answer);
        self.check_shape(&name, request, &answer);
        self.check_storage(&name);
        self.check_logs(&name);
        let mut lease = None;
        if let Ok(Some(response)) = &answer
            && let (Some(kept), false) = (&response.lease, request.operation == Operation::Renew)
        {
            lease = Some(self.leases.lock().unwrap().insert(
                &request.path,
                kept,
                &response.data,
                self.clock.now(),
            ));
        }
        if let (Operation::Revoke, Ok(_), Some(secret)) = (request.operation, &answer, &request.secret) {
            self.check_dead(&secret.lease_id, &state);
        }
        Answered { request: name, answer, lease }
    }

    /// Learns every current key value.
    fn learn(&self) -> State {
        let state = self.sim.state();
        let mut secrets = self.secrets();
        state.admin_keys.iter().for_each(|key| secrets.learn(&key.value));
        state.accounts.iter().flat_map(|account| &account.keys).for_each(|key| secrets.learn(&key.value));
        state
    }

    fn check_answer(&self, name: &str, answer: &Answer) {
        let text = match answer {
            Ok(None) => return,
            Err(error) => format!("{error} {} {error:?}", error.detail().unwrap_or_default()),
            Ok(Some(response)) => {
                let mut data = response.data.clone();
                data.remove("api_key");
                let internal = response.lease.as_ref().map(|lease| json!(lease.internal));
                format!("{response:?} {} {:?} {internal:?}", Value::Object(data), response.headers)
            }
        };
        if let Some(secret) = self.secrets().find_in(&text) {
            panic!("{name} shows the key {secret}");
        }
    }

    /// A response must match the mount's OpenAPI document.
    fn check_shape(&self, name: &str, request: &Request, answer: &Answer) {
        let Ok(response) = answer else { return };
        if let Some(mismatch) = self.document.get().and_then(|it| it.mismatch(request, response.as_ref())) {
            panic!("{name} answers {mismatch}");
        }
    }

    /// Key values may appear only in seal-wrapped entries, never in storage keys or write-ahead entries.
    fn check_storage(&self, name: &str) {
        let sealed = self.backend().special_paths().seal_wrap_storage;
        let secrets = self.secrets();
        for write in self.watched.take_writes() {
            let (key, value, wrapped) = match &write {
                Write::Put(entry) => (&entry.key, String::from_utf8_lossy(&entry.value), entry.seal_wrap),
                Write::Delete(key) => (key, "".into(), false),
            };
            assert_eq!(secrets.find_in(key), None, "{name} wrote a storage key with a key in it");
            if secrets.find_in(&value).is_some() {
                let listed = sealed.iter().any(|prefix| key.starts_with(prefix.as_str()));
                assert!(wrapped && listed, "{name} stored a key under {key} without seal wrap");
                assert!(!key.starts_with("wal/"), "{name} wrote a key into the write-ahead entry {key}");
            }
        }
    }

    fn check_logs(&self, name: &str) {
        if let Some(line) = logs::find(&self.secrets()) {
            panic!("after {name} the log shows a key: {line}");
        }
    }

    /// SPEC 4.3: a successful revocation means that the key is dead.
    fn check_dead(&self, lease: &str, state: &State) {
        let queueing = self.storage_text("config").contains(r#""revocation_mode":"queue""#);
        let leases = self.leases.lock().unwrap();
        let key = leases.all().find(|kept| kept.id == lease).map(|kept| kept.api_key.clone());
        let alive = key.is_some_and(|key| state.is_live(&key));
        assert!(queueing || !alive, "the revocation of {lease} succeeded, but its key is alive");
    }

    fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap()
    }

    // === Leftovers ===

    /// Accounts and live keys at OpenAI that neither a lease nor a storage entry names.
    pub fn orphans(&self) -> Vec<String> {
        let known = self.storage_text("") + &self.lease_text();
        let (foreign, windows) = (self.foreign.lock().unwrap(), windows::stored(&self.storage));
        let is_known = |id: &str, name: &str| {
            let has_window = windows::of(name).is_some_and(|window| windows.contains(window));
            foreign.contains(id) || known.contains(id) || known.contains(name) || has_window
        };
        let (mut orphans, making) = (Vec::new(), self.being_made());
        for AccountState { id, name, keys, .. } in self.sim.state().accounts {
            if !is_known(&id, &name) {
                orphans.push(format!("account {id} {name}"));
            }
            // The first key of an account that is being made goes with the account.
            let live = keys.iter().filter(|key| key.live && !making.contains(&name));
            // The first key of every account has the same name, so its name proves nothing.
            let lost = live.filter(|key| {
                !is_known(&key.id, &key.name) || key.name == "Secret Key" && !is_known(&key.id, &name)
            });
            orphans.extend(lost.map(|key| format!("key {} {} of {name}", key.id, key.name)));
        }
        orphans
    }

    /// The names that records say are being made.
    fn being_made(&self) -> Vec<String> {
        let mut names = Vec::new();
        for entry in self.storage.snapshot() {
            let record = serde_json::from_slice::<Value>(&entry.value).unwrap_or_default();
            let making = record["making"].as_array().into_iter().flatten();
            names.extend(making.filter_map(|making| making["name"].as_str().map(str::to_owned)));
        }
        names
    }

    /// Values of the storage entries under a prefix.
    pub fn storage_text(&self, prefix: &str) -> String {
        let entries = self.storage.snapshot().into_iter().filter(|entry| entry.key.starts_with(prefix));
        entries.map(|entry| String::from_utf8_lossy(&entry.value).into_owned() + "\n").collect()
    }

    /// Storage keys under a prefix, but for the mark of the storage's version.
    pub fn stored(&self, prefix: &str) -> Vec<String> {
        let keys = self.storage.keys().into_iter().filter(|key| key != STORAGE_VERSION);
        keys.filter(|key| key.starts_with(prefix)).collect()
    }

    fn lease_text(&self) -> String {
        self.leases
            .lock()
            .unwrap()
            .all()
            .map(|lease| Value::Object(lease.internal.clone()).to_string())
            .collect()
    }

    /// Ends the test: sweeps pending work and asserts that nothing is left.
    pub async fn finish(self) {
        self.tick_now().await.done();
        assert_eq!(self.stored("wal/"), Vec::<String>::new(), "write-ahead entries are left");
        assert_eq!(self.orphans(), Vec::<String>::new());
    }

    /// Drops the mount without the final checks, for tests that leave objects behind.
    pub fn abandon(mut self) {
        self.abandoned = true;
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.abandoned && !std::thread::panicking() {
            assert_eq!(self.orphans(), Vec::<String>::new());
        }
    }
}

impl Caller<'_> {
    pub async fn read(self, path: &str) -> Answered {
        self.ask(Operation::Read, path, json!({})).await
    }

    /// Writes as the server does, after the existence check.
    pub async fn write(self, path: &str, data: Value) -> Answered {
        let asked = self.request(Operation::Update, path, data.clone());
        match self.mount.backend().exists(asked.clone()).await {
            Ok(Some(false)) => self.ask(Operation::Create, path, data).await,
            Ok(_) => self.ask(Operation::Update, path, data).await,
            Err(error) => self.mount.check(&asked, Err(error)),
        }
    }

    pub async fn ask(self, operation: Operation, path: &str, data: Value) -> Answered {
        self.mount.ask(self.request(operation, path, data)).await
    }

    pub fn request(self, operation: Operation, path: &str, data: Value) -> Request {
        let storage: Arc<dyn Storage> = self.mount.watched.clone();
        let Value::Object(data) = data else { panic!("a request's data is an object") };
        Request {
            id: "request".to_owned(),
            data,
            mount_point: "openai/".to_owned(),
            client_token: self.token.to_owned(),
            client_token_accessor: format!("accessor of {}", self.token),
            display_name: "somebody".to_owned(),
            entity_id: self.entity.to_owned(),
            cancelled: CancellationToken::new(),
            ..Request::new(operation, path, storage)
        }
    }
}

fn set_up(storage: &Arc<Watched>, host: &Arc<TestSystem>, clock: &Arc<TestClock>) -> Arc<dyn Backend> {
    let setup = Setup {
        config: [("plugin_name".to_owned(), "openai".to_owned())].into(),
        backend_uuid: UUID.to_owned(),
        storage: Arc::<Watched>::clone(storage),
        system: Arc::<TestSystem>::clone(host),
    };
    Engines::by(Arc::<TestClock>::clone(clock)).mount(setup).expect("the engine mounts")
}

/// The path of a lease: its id without the mount and the number.
fn path_of(lease: &Granted) -> &str {
    let path = lease.id.strip_prefix("openai/").unwrap_or(&lease.id);
    path.rsplit_once('/').map_or(path, |(path, _)| path)
}

/// The fields of a JSON object.
pub fn object(value: Value) -> Data {
    match value {
        Value::Object(data) => data,
        other => panic!("{other} is not an object"),
    }
}
