//! One mount, the OpenAI behind it and the leases before it, of which only the mount can end and begin anew.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use openai_secrets::engine::Engines;
use openai_secrets::engine::failpoint::Trap;
use openai_secrets::logical::{
    Answer, Backend, Data, Factory, FixedSystem, InMemory, Operation, Request, Secret, Setup, Storage,
};
use serde_json::{Value, json};

use crate::simulator::{AccountState, KeyState};
use crate::support::openai::{ADMIN_KEY, ORGANIZATION, OpenAi, PROJECT};
use crate::support::system::TestClock;
use crate::support::windows;

/// Where the records of credentials stand by their end; and an end long ago.
const LEDGER: &str = "ledger/";
const LONG_AGO: &str = "ledger/00000000/00/";
/// Longer than what was left half way is left alone, or put off; shorter than anything lives.
const A_WHILE: Duration = Duration::from_secs(20 * 60);
/// What was left in a creation window is looked up for the last time before that.
const WINDOWS_ARE_OVER: Duration = Duration::from_secs(540);
/// What is under way, or is to be put right.
const UNDER_WAY: [&str; 2] = ["wal/", "library-loan/"];

/// All there is.
pub(super) struct World {
    pub(super) openai: OpenAi,
    pub(super) storage: Arc<InMemory>,
    /// The leases of credentials that Vault keeps.
    pub(super) leases: Vec<Data>,
    /// Those of loans.
    pub(super) loans: Vec<Data>,
    /// Leases whose revocation did not come to its end: Vault will ask again.
    pub(super) ending: Vec<Data>,
    /// Accounts that were there before, by what they are given to.
    pub(super) given: HashMap<&'static str, String>,
    clock: Arc<TestClock>,
    /// What the mounts of one process have in common.
    process: Arc<Engines>,
    mount: Arc<dyn Backend>,
}

/// A request's answer; nothing if the engine ended under it.
pub(super) type Outcome = Option<Answer>;

impl World {
    /// A configured mount with the roles that [`super::steps`] use.
    pub(super) async fn begin() -> Self {
        let clock = Arc::new(TestClock::default());
        let process = process(&clock);
        Self::within(process, clock).await
    }

    /// Another one of the same process, with a storage and an OpenAI of its own.
    pub(super) async fn beside(&self) -> Self {
        Self::within(Arc::clone(&self.process), Arc::clone(&self.clock)).await
    }

    async fn within(process: Arc<Engines>, clock: Arc<TestClock>) -> Self {
        let (openai, storage) = (OpenAi::start().await, Arc::new(InMemory::new()));
        let given = HashMap::from(
            ["role", "key", "account", "given-to-set"].map(|name| (name, openai.existing_account(name))),
        );
        let mount = mount(&process, &storage).await;
        let (leases, loans, ending) = (Vec::new(), Vec::new(), Vec::new());
        let world = Self { openai, storage, leases, loans, ending, given, clock, process, mount };
        let config = json!({
            "admin_api_key": ADMIN_KEY, "organization_id": ORGANIZATION, "api_endpoint": world.openai.endpoint(),
        });
        for (path, data) in [
            ("config", config),
            ("roles/plain", json!({"project_id": PROJECT, "ttl": "24h"})),
            ("roles/narrow", json!({"project_id": PROJECT, "ttl": "24h", "scopes": "api.responses.write"})),
            (
                "roles/adopted",
                json!({"project_id": PROJECT, "ttl": "24h", "service_account_id": world.given["role"]}),
            ),
        ] {
            let written = world.write(path, data, None).await.expect("nothing ends here");
            written.unwrap_or_else(|error| panic!("{path} is not written: {error:?}"));
        }
        world
    }

    /// The engine ended; another one takes its place on what it left in storage.
    pub(super) async fn restart(&mut self) {
        self.process = process(&self.clock);
        self.mount = mount(&self.process, &self.storage).await;
    }

    pub(super) async fn write(&self, path: &str, data: Value, trap: Option<&Arc<Trap>>) -> Outcome {
        self.run(self.request(Operation::Update, path, data), trap).await
    }

    /// Writes the static role of this rotation method.
    pub(super) async fn write_static(&self, method: &str, trap: Option<&Arc<Trap>>) -> Outcome {
        let role = json!({
            "project_id": PROJECT, "service_account_id": self.given[method], "rotation_method": method,
        });
        self.write(&format!("static-roles/{method}"), role, trap).await
    }

    pub(super) async fn delete(&self, path: &str, trap: Option<&Arc<Trap>>) -> Outcome {
        self.run(self.request(Operation::Delete, path, json!({})), trap).await
    }

    /// Reads what may come with a lease, which is kept if it does.
    pub(super) async fn read(&mut self, path: &str, trap: Option<&Arc<Trap>>) -> Outcome {
        let outcome = self.run(self.request(Operation::Read, path, json!({})), trap).await;
        self.leases.extend(lease_in(&outcome));
        outcome
    }

    /// So many read it at once. If the engine ends, those that it answered before have their leases.
    pub(super) async fn read_at_once(
        &mut self,
        path: &str,
        readers: usize,
        trap: Option<&Arc<Trap>>,
    ) -> Option<()> {
        let leases = Mutex::<Vec<Data>>::default();
        let read = async || {
            let answer = self.answer(self.request(Operation::Read, path, json!({}))).await;
            leases.lock().expect("nothing panics").extend(lease_in(&Some(answer)));
        };
        let all = async { join_all((0..readers).map(|_| read())).await };
        let outcome = trapped(all, trap).await;
        self.leases.append(&mut leases.into_inner().expect("nothing panics"));
        outcome.map(drop)
    }

    pub(super) async fn check_out(&mut self, path: &str, trap: Option<&Arc<Trap>>) -> Outcome {
        let outcome = self.run(self.request(Operation::Update, path, json!({})), trap).await;
        self.loans.extend(lease_in(&outcome));
        outcome
    }

    /// Vault ends one of its leases.
    pub(super) async fn revoke(&mut self, lease: Data, trap: Option<&Arc<Trap>>) -> Outcome {
        let mut request = self.request(Operation::Revoke, "creds/plain", json!({}));
        request.secret = Some(Secret {
            lease_id: "openai/creds/plain/lease".to_owned(),
            internal: lease.clone(),
            ttl: Duration::from_secs(1),
            max_ttl: Duration::ZERO,
            increment: Duration::ZERO,
            renewable: false,
            issue_time: Some(Utc::now()),
        });
        let outcome = self.run(request, trap).await;
        if !matches!(outcome, Some(Ok(_))) {
            self.ending.push(lease);
        }
        outcome
    }

    /// Vault's tick, at a time when every write-ahead entry is old enough.
    pub(super) async fn tick(&self, trap: Option<&Arc<Trap>>) -> Outcome {
        self.clock.advance_monotonic(WINDOWS_ARE_OVER);
        self.run(self.request(Operation::Rollback, "", json!({"immediate": true})), trap).await
    }

    /// The end of whatever is on record without a lease passes.
    pub(super) fn let_ends_pass(&self) {
        let leases: Vec<_> = self.leases.iter().chain(&self.ending).collect();
        let entries = self.storage.snapshot().into_iter().map(|mut entry| {
            let name = entry.key.strip_prefix(LEDGER).and_then(|place| place.rsplit('/').next());
            if let Some(name) = name.filter(|name| !leases.iter().any(|lease| mentions(lease, name))) {
                entry.key = format!("{LONG_AGO}{name}");
            }
            entry
        });
        self.storage.restore(entries.collect());
    }

    /// Somebody uses every key that there is.
    pub(super) fn use_keys(&self) {
        let state = self.openai.state();
        state.live_keys().for_each(|key| self.openai.simulator().use_key(&key.value));
    }

    /// The sentence: every account and every live key at OpenAI, admin keys too, is named by a lease or a record.
    pub(super) fn nothing_is_lost(&self) {
        let all = Texts::of(self.lease_texts().chain(self.records(|_| true)), &self.storage);
        let credentials = |key: &str| key.starts_with("wal/") || key.starts_with(LEDGER);
        let making = self.records(|key| key.starts_with("static-role/")).map(|role| making(&role));
        let credentials = self.lease_texts().chain(self.records(credentials)).chain(making);
        let credentials = Texts::of(credentials, &self.storage);
        for account in self.openai.state().accounts {
            let is_named = self.was_there(&account) || all.name(&account);
            assert!(is_named, "nothing names the account {account:?}: {all:#?}");
            for key in account.keys.iter().filter(|key| key.live) {
                // The key of an account that was made with it goes with it.
                let is_named = all.name_key(key) || !self.was_there(&account) && credentials.name(&account);
                assert!(is_named, "nothing names the key {key:?}: {all:#?}");
            }
        }
        let federated = Texts::of(self.records(|key| key.starts_with("federat")), &self.storage);
        for one in &self.openai.state().providers {
            assert!(federated.say(&one.id) || federated.say(&one.name), "nothing names the provider {one:?}");
        }
        for rule in &self.openai.state().rules {
            let is_named =
                federated.say(&rule.id) || rule.name.as_ref().is_some_and(|name| federated.say(name));
            assert!(is_named, "nothing names the rule {rule:?}");
        }
        for key in self.openai.admin_keys() {
            assert!(all.say(&key.id) || all.say(&key.name), "nothing names the admin key {key:?}: {all:#?}");
        }
    }

    /// Vault comes back to what it has begun and ends all loans, ticks come, and time passes: then each account is a
    /// lease's, a role's or a set's, each of these has its key, and nothing is under way.
    pub(super) async fn settles(&mut self) {
        self.openai.simulator().clear_faults();
        self.storage.clear_faults();
        self.restart().await;
        // What was made a moment ago and is gone already is in doubt for a minute.
        self.time_passes();
        self.ending.append(&mut self.loans);
        for lease in std::mem::take(&mut self.ending) {
            let revoked = self.revoke(lease, None).await;
            assert!(matches!(revoked, Some(Ok(_))), "a revocation does not come to its end: {revoked:?}");
        }
        self.ticks_come().await;
        // A first key that somebody uses lives on until its role is written again.
        for role in self.records(|key| key.starts_with("static-role/")) {
            let role: Value = serde_json::from_str(&role).expect("a record is JSON");
            if role["current"].is_null() && role["deleted"] != true {
                let written = self.write_static(text(&role["rotation_method"]), None).await;
                assert!(
                    matches!(written, Some(Ok(_))),
                    "an unfinished role is not written again: {written:?}"
                );
            }
        }
        self.ticks_come().await;
        let keys = self.storage.keys();
        let under_way: Vec<_> =
            keys.iter().filter(|key| UNDER_WAY.iter().any(|prefix| key.starts_with(prefix))).collect();
        assert!(under_way.is_empty(), "work is still under way: {under_way:?}");
        self.everything_has_an_owner();
    }

    /// Ticks, each after a while, and whatever is on record without a lease comes to its end.
    async fn ticks_come(&self) {
        for _ in 0..4 {
            let ticked = self.tick(None).await;
            assert!(matches!(ticked, Some(Ok(_))), "the tick failed: {ticked:?}");
            self.nothing_is_lost();
            self.let_ends_pass();
            self.time_passes();
        }
    }

    pub(super) fn time_passes(&self) {
        self.clock.advance(A_WHILE);
        self.openai.simulator().advance(A_WHILE);
    }

    pub(super) fn everything_has_an_owner(&self) {
        let state = self.openai.state();
        let alive: Vec<_> = state.live_keys().map(|key| key.id.as_str()).collect();
        let roles: Vec<Value> = self
            .records(|key| key.starts_with("static-role/"))
            .map(|role| serde_json::from_str(&role).expect("a record is JSON"))
            .collect();
        let mut owned: Vec<_> = self.leases.iter().map(|lease| text(&lease["api_key_id"])).collect();
        for role in &roles {
            owned.push(text(&role["current"]["api_key_id"]));
            // A replaced key expires at OpenAI by itself when its grace is over; the next tick forgets it.
            let is_in_grace = |old: &&Value| {
                let ends: DateTime<Utc> = text(&old["ends"]).parse().expect("a time");
                ends.timestamp() > state.now.cast_signed()
            };
            let ending = role["ending"].as_array().into_iter().flatten();
            owned.extend(ending.filter(is_in_grace).map(|old| text(&old["api_key_id"])));
            assert_eq!(role["making"], Value::Null, "an outcome is still not known");
        }
        for key in &owned {
            assert!(alive.contains(key), "a key that is owned is gone: {key}");
        }
        assert_eq!(alive.len(), owned.len(), "{alive:#?} are alive for {owned:#?}");

        let owners = |key: &str| {
            ["static-role/", "library-set/", "federated-role/"].iter().any(|prefix| key.starts_with(prefix))
        };
        let owners = Texts(self.lease_texts().chain(self.records(owners)).collect(), BTreeSet::new());
        for account in &state.accounts {
            assert!(self.was_there(account) || owners.name(account), "nobody has {account:?}: {owners:#?}");
        }
        let federated = self.records(|key| key.starts_with("federated-role/")).count();
        let federations = self.records(|key| key == "federation").count();
        assert_eq!((state.providers.len(), state.rules.len()), (federations, federated), "{state:#?}");
        for role in self.records(|key| key.starts_with("federated-role/")) {
            let role: Value = serde_json::from_str(&role).expect("a record is JSON");
            let is_settled = role["managed"]["is_applied"] == true && role["making"] == Value::Null;
            assert!(is_settled && role["deleted"] == Value::Null, "a federated role is not settled: {role}");
        }
        let admin_keys = self.openai.admin_keys();
        let config = Texts(self.records(|key| key == "config").collect(), BTreeSet::new());
        assert!(admin_keys.len() == 1 && config.say(&admin_keys[0].id), "{admin_keys:#?} {config:#?}");
    }

    fn was_there(&self, account: &AccountState) -> bool {
        account.id == self.openai.bystander() || self.given.values().any(|id| *id == account.id)
    }

    fn lease_texts(&self) -> impl Iterator<Item = String> {
        let leases = self.leases.iter().chain(&self.loans).chain(&self.ending);
        leases.map(|lease| Value::Object(lease.clone()).to_string())
    }

    fn records(&self, which: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
        let entries = self.storage.snapshot().into_iter().filter(move |entry| which(&entry.key));
        entries.map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
    }

    async fn run(&self, request: Request, trap: Option<&Arc<Trap>>) -> Outcome {
        trapped(self.answer(request), trap).await
    }

    async fn answer(&self, request: Request) -> Answer {
        self.mount.handle(request).await
    }

    fn request(&self, operation: Operation, path: &str, data: Value) -> Request {
        let storage: Arc<dyn Storage> = Arc::<InMemory>::clone(&self.storage);
        let mut request = Request::new(operation, path, storage);
        "the only caller".clone_into(&mut request.client_token);
        request.data = serde_json::from_value(data).expect("an object");
        request
    }
}

/// What leases and records say, and the windows that are stored.
#[derive(Debug)]
struct Texts(Vec<String>, BTreeSet<String>);

impl Texts {
    fn of(texts: impl Iterator<Item = String>, storage: &InMemory) -> Self {
        Self(texts.collect(), windows::stored(storage))
    }

    fn has_window(&self, name: &str) -> bool {
        windows::of(name).is_some_and(|window| self.1.contains(window))
    }

    fn say(&self, name: &str) -> bool {
        let quoted = format!("\"{name}\"");
        self.0.iter().any(|text| text.contains(&quoted))
    }

    fn name(&self, account: &AccountState) -> bool {
        self.say(&account.id) || self.say(&account.name) || self.has_window(&account.name)
    }

    fn name_key(&self, key: &KeyState) -> bool {
        self.say(&key.id) || self.say(&key.name) || self.has_window(&key.name)
    }
}

/// What the record of an owner says is being made.
fn making(record: &str) -> String {
    serde_json::from_str::<Value>(record).expect("a record is JSON")["making"].to_string()
}

/// What it comes to; nothing if the engine ended under it.
async fn trapped<T>(work: impl Future<Output = T>, trap: Option<&Arc<Trap>>) -> Option<T> {
    match trap {
        Some(trap) => trap.run(work).await,
        None => Some(work.await),
    }
}

fn process(clock: &Arc<TestClock>) -> Arc<Engines> {
    Arc::new(Engines::by(Arc::<TestClock>::clone(clock)))
}

async fn mount(process: &Engines, storage: &Arc<InMemory>) -> Arc<dyn Backend> {
    let setup = Setup {
        config: HashMap::new(),
        backend_uuid: "6f0d3a52-5b6e-4f4e-8d8c-0a8f6f3a1c11".to_owned(),
        storage: Arc::<InMemory>::clone(storage),
        system: Arc::new(FixedSystem::default()),
    };
    let mount = process.mount(setup).expect("it mounts");
    mount.initialize().await.expect("it initializes");
    mount
}

fn lease_in(outcome: &Outcome) -> Option<Data> {
    match outcome {
        Some(Ok(Some(response))) => response.lease.as_ref().map(|lease| lease.internal.clone()),
        _ => None,
    }
}

fn mentions(lease: &Data, text: &str) -> bool {
    lease.values().any(|value| value.as_str() == Some(text))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
