//! One mount, the OpenAI behind it and the leases before it, of which only the mount can end and begin anew.

use std::collections::HashMap;
use std::sync::Arc;

use openai_secrets::engine::Engines;
use openai_secrets::engine::failpoint::Trap;
use openai_secrets::logical::{
    Answer, Backend, Data, Entry, Factory, FixedSystem, InMemory, Operation, Request, Secret, Setup, Storage,
};
use serde_json::{Value, json};

use crate::support::openai::{ADMIN_KEY, ORGANIZATION, OpenAi, PROJECT};

/// Where the records of credentials stand by their end; and an end long ago.
const LEDGER: &str = "ledger/";
const LONG_AGO: &str = "ledger/00000000/00/";

/// All there is.
pub(super) struct World {
    pub(super) openai: OpenAi,
    pub(super) storage: Arc<InMemory>,
    /// The leases that Vault keeps.
    pub(super) leases: Vec<Data>,
    /// Leases whose revocation did not come to its end: Vault will ask again.
    pub(super) ending: Vec<Data>,
    mount: Arc<dyn Backend>,
}

/// A request's answer; nothing if the engine ended under it.
pub(super) type Outcome = Option<Answer>;

impl World {
    /// A configured mount with the roles that [`super::steps`] use.
    pub(super) async fn begin() -> Self {
        let (openai, storage) = (OpenAi::start().await, Arc::new(InMemory::new()));
        let mount = mount(&storage);
        let world = Self { openai, storage, leases: Vec::new(), ending: Vec::new(), mount };
        let config = json!({
            "admin_api_key": ADMIN_KEY, "organization_id": ORGANIZATION, "api_endpoint": world.openai.endpoint(),
        });
        let adopted = world.openai.bystander();
        for (path, data) in [
            ("config", config),
            ("roles/plain", json!({"project_id": PROJECT})),
            ("roles/narrow", json!({"project_id": PROJECT, "scopes": "api.responses.write"})),
            ("roles/adopted", json!({"project_id": PROJECT, "service_account_id": adopted})),
        ] {
            let written = world.write(path, data).await;
            written.unwrap_or_else(|error| panic!("{path} is not written: {error:?}"));
        }
        world
    }

    /// The engine ended; another one takes its place on what it left in storage.
    pub(super) fn restart(&mut self) {
        self.mount = mount(&self.storage);
    }

    pub(super) async fn write(&self, path: &str, data: Value) -> Answer {
        self.mount.handle(self.request(Operation::Update, path, data)).await
    }

    /// Reads what may come with a lease, which is kept if it does.
    pub(super) async fn read(&mut self, path: &str, trap: Option<&Arc<Trap>>) -> Outcome {
        let outcome = self.run(self.request(Operation::Read, path, json!({})), trap).await;
        if let Some(Ok(Some(response))) = &outcome {
            self.leases.extend(response.lease.as_ref().map(|lease| lease.internal.clone()));
        }
        outcome
    }

    /// Vault ends one of its leases.
    pub(super) async fn revoke(&mut self, lease: Data, trap: Option<&Arc<Trap>>) -> Outcome {
        let mut request = self.request(Operation::Revoke, "creds/plain", json!({}));
        request.secret = Some(Secret {
            lease_id: "openai/creds/plain/lease".to_owned(),
            internal: lease.clone(),
            ttl: std::time::Duration::from_secs(1),
            max_ttl: std::time::Duration::ZERO,
            increment: std::time::Duration::ZERO,
            renewable: false,
            issue_time: Some(chrono::Utc::now()),
        });
        let outcome = self.run(request, trap).await;
        if !matches!(outcome, Some(Ok(_))) {
            self.ending.push(lease);
        }
        outcome
    }

    /// Vault's tick, at a time when every write-ahead entry is old enough.
    pub(super) async fn tick(&self, trap: Option<&Arc<Trap>>) -> Outcome {
        self.run(self.request(Operation::Rollback, "", json!({"immediate": true})), trap).await
    }

    /// The end of whatever is on record without a lease passes.
    pub(super) fn let_ends_pass(&self) {
        let entries = self.storage.snapshot().into_iter().map(|entry| self.ended(entry)).collect();
        self.storage.restore(entries);
    }

    fn ended(&self, entry: Entry) -> Entry {
        let leases = || self.leases.iter().chain(&self.ending);
        match entry.key.strip_prefix(LEDGER).and_then(|place| place.rsplit('/').next()) {
            Some(name) if !leases().any(|lease| mentions(lease, name)) => {
                Entry { key: format!("{LONG_AGO}{name}"), ..entry }
            }
            _ => entry,
        }
    }

    /// The sentence: every account and every live key at OpenAI is named by a lease or a record.
    pub(super) fn nothing_is_lost(&self) {
        let records = self.storage.snapshot();
        let leases = self.leases.iter().chain(&self.ending);
        let mut texts: Vec<String> = leases.map(|lease| Value::Object(lease.clone()).to_string()).collect();
        texts.extend(records.iter().map(|entry| String::from_utf8_lossy(&entry.value).into_owned()));
        let named = |id: &str| texts.iter().any(|text| text.contains(&format!("\"{id}\"")));
        for account in self.openai.state().accounts {
            let known = named(&account.id) || named(&account.name);
            assert!(known, "nothing names the account {account:?}: {texts:#?}");
            for key in account.keys.iter().filter(|key| key.live) {
                assert!(
                    named(&key.id) || named(&key.name) || (known && account.id != self.openai.bystander()),
                    "nothing names the key {key:?}: {texts:#?}"
                );
            }
        }
    }

    /// Vault comes back to what it has begun, ticks come, and ends pass: then each account is a lease's, each lease
    /// has its key, and nothing is under way.
    pub(super) async fn settles(&mut self) {
        self.restart();
        for lease in std::mem::take(&mut self.ending) {
            let revoked = self.revoke(lease, None).await;
            assert!(matches!(revoked, Some(Ok(_))), "a revocation does not come to its end: {revoked:?}");
        }
        for _ in 0..2 {
            let ticked = self.tick(None).await;
            assert!(matches!(ticked, Some(Ok(_))), "the tick failed: {ticked:?}");
            self.nothing_is_lost();
            self.let_ends_pass();
        }
        let keys = self.storage.keys();
        assert!(!keys.iter().any(|key| key.starts_with("wal/")), "work is still under way: {keys:?}");
        let state = self.openai.state();
        let alive: HashMap<_, _> = state.live_keys().map(|key| (key.id.clone(), key)).collect();
        for lease in &self.leases {
            let key = lease["api_key_id"].as_str().expect("a lease names its key");
            assert!(alive.contains_key(key), "the key of a lease is gone: {lease:?}");
        }
        // The account that was there before has keys, but no owner here.
        let leased = self.leases.len();
        assert_eq!(alive.len(), leased, "{alive:#?} are alive for {leased} leases");
        assert!(state.accounts.len() <= leased + 1, "{:#?}", state.accounts);
    }

    async fn run(&self, request: Request, trap: Option<&Arc<Trap>>) -> Outcome {
        match trap {
            Some(trap) => trap.run(self.mount.handle(request)).await,
            None => Some(self.mount.handle(request).await),
        }
    }

    fn request(&self, operation: Operation, path: &str, data: Value) -> Request {
        let storage: Arc<dyn Storage> = Arc::<InMemory>::clone(&self.storage);
        let mut request = Request::new(operation, path, storage);
        request.data = serde_json::from_value(data).expect("an object");
        request
    }
}

fn mount(storage: &Arc<InMemory>) -> Arc<dyn Backend> {
    let setup = Setup {
        config: HashMap::new(),
        backend_uuid: "6f0d3a52-5b6e-4f4e-8d8c-0a8f6f3a1c11".to_owned(),
        storage: Arc::<InMemory>::clone(storage),
        system: Arc::new(FixedSystem::default()),
    };
    Engines::default().mount(setup).expect("it mounts")
}

fn mentions(lease: &Data, text: &str) -> bool {
    lease.values().any(|value| value.as_str() == Some(text))
}
