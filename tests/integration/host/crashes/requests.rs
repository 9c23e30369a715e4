//! The requests that together come by every point of one noun, whatever becomes of each of them.

use std::cell::Cell;

use serde_json::{Value, json};

use crate::simulator::endpoint::{CREATE_ACCOUNT, UPDATE_KEY};
use crate::simulator::{Action, Fault};
use crate::support::api::{Answer, Api};
use crate::support::openai::{OpenAi, PROJECT};

const SETS: &str = "openai/library-sets";
const ACCOUNT: &str = "account";
const METHODS: [&str; 2] = ["key", ACCOUNT];

/// What can be asked of the mount.
pub(super) struct Requests<'a> {
    api: &'a Api,
    openai: &'a OpenAi,
    /// An account for the static role of each method.
    given: [String; 2],
    /// How many library sets there were: each round has one of its own, for a check-out that ended half way keeps its
    /// account until a tick.
    sets: Cell<u32>,
}

impl<'a> Requests<'a> {
    /// With accounts of their own at OpenAI.
    pub(super) fn new(api: &'a Api, openai: &'a OpenAi) -> Self {
        let given = METHODS.map(|method| openai.existing_account(method));
        Self { api, openai, given, sets: Cell::new(0) }
    }

    /// The names of the accounts that were there before.
    pub(super) fn given() -> Vec<String> {
        let mut names = METHODS.map(str::to_owned);
        names.sort();
        names.to_vec()
    }

    /// Comes by this point, if nothing goes wrong before.
    pub(super) async fn come_by(&self, point: &str) {
        match point {
            "issue.bare_announced" => self.sets().await,
            "issue.made_wide" | "issue.not_narrowed" => self.credentials().await,
            _ => match point.split('.').next().unwrap_or(point) {
                "creds" | "revoke" => self.credentials().await,
                "issue" | "static" | "rotate" => self.static_roles().await,
                "set" | "loan" | "return" => self.sets().await,
                "federation" | "federated" => self.federation().await,
                "admin" => self.write("openai/config/rotate", json!({})).await,
                _ => panic!("no request comes by {point}: add some, or name it as out of reach"),
            },
        }
    }

    /// Deletes what the requests wrote; whether all of it is gone.
    pub(super) async fn clear(&self) -> bool {
        for method in METHODS {
            self.api.delete(&format!("openai/static-roles/{method}")).await;
        }
        for set in 1..=self.sets.get() {
            self.delete_set(set).await;
        }
        self.api.delete("openai/roles/federated").await;
        self.api.delete("openai/config/federation").await;
        let is_empty = async |folder| self.api.list(folder).await.status == 404;
        is_empty("openai/static-roles").await && is_empty(SETS).await
    }

    async fn credentials(&self) {
        let simulator = self.openai.simulator();
        self.read_and_revoke("openai/creds/my-role?ttl=5s").await;
        self.api.read("openai/creds/narrow?ttl=5s").await;
        simulator.fault(Fault::on(CREATE_ACCOUNT, Action::status(400)).times(1));
        self.api.read("openai/creds/my-role?ttl=5s").await;
        simulator.fault(Fault::on(UPDATE_KEY, Action::status(400)).times(1));
        self.api.read("openai/creds/narrow?ttl=5s").await;
        simulator.fault(Fault::on(CREATE_ACCOUNT, Action::Drop).after_the_work().times(1));
        self.api.read("openai/creds/my-role?ttl=5s").await;
    }

    async fn federation(&self) {
        let issuer = json!({"token_endpoint": self.openai.simulator().token_url()});
        self.write("openai/config/federation", issuer).await;
        for scopes in ["", "api.model.read"] {
            let role = json!({"project_id": PROJECT, "credential_type": "access_token", "scopes": scopes});
            self.write("openai/roles/federated", role).await;
        }
        self.write("openai/config/federation/rotate", json!({})).await;
        self.api.delete("openai/roles/federated").await;
        self.api.delete("openai/config/federation").await;
    }

    async fn read_and_revoke(&self, path: &str) {
        let made = self.api.read(path).await;
        if made.status == 200 {
            self.write("sys/leases/revoke", json!({"lease_id": made.lease_id(), "sync": true})).await;
        }
    }

    async fn static_roles(&self) {
        for (method, account) in METHODS.into_iter().zip(&self.given) {
            let role =
                json!({"project_id": PROJECT, "service_account_id": account, "rotation_method": method});
            self.write(&format!("openai/static-roles/{method}"), role).await;
            self.rotate(method).await;
            if method == ACCOUNT {
                self.openai.simulator().fault(Fault::on(CREATE_ACCOUNT, Action::status(400)).times(1));
                self.rotate(method).await;
                self.openai
                    .simulator()
                    .fault(Fault::on(CREATE_ACCOUNT, Action::Drop).after_the_work().times(1));
                self.rotate(method).await;
            }
            self.api.delete(&format!("openai/static-roles/{method}")).await;
        }
    }

    async fn rotate(&self, method: &str) {
        self.write(&format!("openai/static-creds/{method}/rotate"), json!({})).await;
    }

    /// A rotation makes an account, and neither the answer nor a list says so.
    pub(super) async fn lose_a_rotation(&self) {
        let role = json!({
            "project_id": PROJECT, "service_account_id": self.given[1], "rotation_method": ACCOUNT,
        });
        self.write(&format!("openai/static-roles/{ACCOUNT}"), role).await;
        super::lose_an_answer(self.openai);
        self.rotate(ACCOUNT).await;
        self.openai.simulator().clear_faults();
    }

    async fn sets(&self) {
        let set = self.sets.get() + 1;
        self.sets.set(set);
        self.write_set(set, ["a", "b"]).await;
        let lent = self.check_out(set).await;
        if lent.status == 200 {
            let account = json!({"service_account_id": lent.text("service_account_id")});
            self.write(&format!("{SETS}/{set}/check-in"), account).await;
        }
        let lent = self.check_out(set).await;
        if lent.status == 200 {
            self.write("sys/leases/revoke", json!({"lease_id": lent.lease_id(), "sync": true})).await;
        }
        self.write_set(set, ["a", "c"]).await;
        self.delete_set(set).await;
    }

    async fn write_set(&self, set: u32, accounts: [&str; 2]) {
        let names = accounts.map(|account| format!("{account}-of-{set}"));
        let body = json!({"project_id": PROJECT, "service_account_names": names, "ttl": "10m"});
        self.write(&format!("{SETS}/{set}"), body).await;
    }

    async fn check_out(&self, set: u32) -> Answer {
        self.api.write(&format!("{SETS}/{set}/check-out"), json!({})).await
    }

    /// With its loans: a crash may have left accounts lent that nobody has.
    async fn delete_set(&self, set: u32) {
        for account in ["a", "b", "c"] {
            let account = json!({"service_account": format!("{account}-of-{set}")});
            self.write(&format!("{SETS}/{set}/admin-check-in"), account).await;
        }
        self.api.delete(&format!("{SETS}/{set}")).await;
    }

    /// A refusal is no end: the next round asks again.
    async fn write(&self, path: &str, body: Value) {
        self.api.write(path, body).await;
    }
}
