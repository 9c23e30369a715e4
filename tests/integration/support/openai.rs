//! The simulated OpenAI of one host test: an organization, a project, and an account of others.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::{Answer, exchange};
use crate::simulator::{Action, AdminKeyState, Fault, Settings, Simulator, State};

pub(crate) const ADMIN_KEY: &str = "sk-admin-host-tests-0123456789abcdefghij";
pub(crate) const ORGANIZATION: &str = "org-hosttests";
pub(crate) const PROJECT: &str = "proj_hosttests";

/// Time until the server's retries end after a 404 for a new object. The 404 is final after one minute.
pub(crate) const UNTIL_404_COUNTS: Duration = Duration::from_secs(180);

pub(crate) struct OpenAi {
    simulator: Simulator,
    bystander: String,
}

impl OpenAi {
    pub(crate) async fn start() -> Self {
        let settings = Settings {
            admin_key: ADMIN_KEY.to_owned(),
            organization: ORGANIZATION.to_owned(),
            projects: vec![PROJECT.to_owned()],
            ..Settings::default()
        };
        let simulator = settings.start().await.expect("loopback has free ports");
        let bystander = simulator.seed_account(PROJECT, "not-ours", false).expect("the project is there").id;
        Self { simulator, bystander }
    }

    /// Value of `api_endpoint`.
    pub(crate) fn endpoint(&self) -> String {
        self.simulator.url()
    }

    /// Id of the account of others.
    pub(crate) fn bystander(&self) -> &str {
        &self.bystander
    }

    /// Names of all accounts except the account of others.
    pub(crate) fn accounts(&self) -> Vec<String> {
        let accounts = self.state().accounts.into_iter();
        accounts.filter(|account| account.id != self.bystander).map(|account| account.name).collect()
    }

    pub(crate) fn state(&self) -> State {
        self.simulator.state()
    }

    /// Number of calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.state().all_calls()
    }

    /// Ids of an account's live keys.
    pub(crate) fn live_keys_of(&self, account: &str) -> Vec<String> {
        let state = self.state();
        let account = state.account(account).unwrap_or_else(|| panic!("OpenAI has no account {account}"));
        account.keys.iter().filter(|key| key.live).map(|key| key.id.clone()).collect()
    }

    /// The live admin keys.
    pub(crate) fn admin_keys(&self) -> Vec<AdminKeyState> {
        self.state().admin_keys.into_iter().filter(|key| key.live).collect()
    }

    /// Adds another account of others; answers its id.
    pub(crate) fn existing_account(&self, name: &str) -> String {
        self.simulator.seed_account(PROJECT, name, false).expect("the project is there").id
    }

    /// Makes this account the owner of every admin key.
    pub(crate) fn give_admin_keys_to(&self, account: &str) {
        self.simulator.own_admin_keys(account);
    }

    /// Sets the latency of every call.
    pub(crate) fn takes(&self, latency: Duration) {
        self.simulator.latency(latency);
    }

    /// True if OpenAI accepts a request with this key.
    pub(crate) async fn accepts(&self, key: &str) -> bool {
        match self.call("GET", "/models", key, None).await.status {
            200 => true,
            401 => false,
            status => panic!("OpenAI answered {status} to a request for its models"),
        }
    }

    /// True if OpenAI accepts this admin key.
    pub(crate) async fn accepts_admin(&self, key: &str) -> bool {
        match self.call("GET", "/organization/projects", key, None).await.status {
            200 => true,
            401 => false,
            status => panic!("OpenAI answered {status} to a request for the projects"),
        }
    }

    /// Creates an admin key as an operator; answers its value and id.
    pub(crate) async fn new_admin_key(&self) -> (String, String) {
        let made = self.administer("POST", "admin_api_keys", Some(json!({"name": "by-an-operator"}))).await;
        let text = |field: &str| made[field].as_str().expect("a new admin key has this field").to_owned();
        (text("value"), text("id"))
    }

    /// Deletes an account without the mount.
    pub(crate) async fn delete_account(&self, id: &str) {
        self.administer("DELETE", &format!("projects/{PROJECT}/service_accounts/{id}"), None).await;
    }

    /// An archived project; answers its id.
    pub(crate) async fn archived_project(&self) -> String {
        let project = self.administer("POST", "projects", Some(json!({"name": "archived"}))).await;
        let id = project["id"].as_str().expect("a project has an id").to_owned();
        self.administer("POST", &format!("projects/{id}/archive"), None).await;
        id
    }

    /// Makes the next call to this endpoint fail with this status and message.
    pub(crate) fn refuse_next(&self, endpoint: &str, status: u16, message: &str) {
        let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": null});
        let body = Some(json!({"error": error}));
        let action = Action::Status { status, headers: std::collections::BTreeMap::new(), body };
        self.simulator.fault(Fault::on(endpoint, action).times(1));
    }

    /// Makes every call fail with 503.
    pub(crate) fn goes_down(&self) {
        let action = Action::Status { status: 503, headers: std::collections::BTreeMap::new(), body: None };
        self.simulator.fault(Fault::everywhere(action));
    }

    /// Removes every fault.
    pub(crate) fn comes_back(&self) {
        self.simulator.clear_faults();
    }

    /// The simulator, for special cases.
    pub(crate) fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    async fn administer(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        self.call(method, &format!("/organization/{path}"), ADMIN_KEY, body).await.ok().body
    }

    async fn call(&self, method: &str, path: &str, key: &str, body: Option<Value>) -> Answer {
        let bearer = format!("Bearer {key}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("OpenAI-Organization", ORGANIZATION),
            ("Content-Type", "application/json"),
        ];
        let answer = exchange(self.address(), method, &format!("/v1{path}"), &headers, body).await;
        answer.unwrap_or_else(|error| panic!("the simulator does not answer {method} {path}: {error}"))
    }

    fn address(&self) -> SocketAddr {
        let origin = self.simulator.origin();
        origin.trim_start_matches("http://").parse().expect("an origin is a scheme, an address and a port")
    }
}
