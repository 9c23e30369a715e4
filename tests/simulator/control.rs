//! `/_sim/`: control of the simulator over HTTP, without authentication.
//!
//! [`super::Simulator`] has a method for each control. The demo and other languages use HTTP.

use std::time::Duration;

use hyper::body::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Seeded;
use super::exchange::Shared;
use super::reply::Reply;
use super::state::State;

/// `POST /_sim/latency`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    ms: u64,
}

/// `POST /_sim/clock`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_ms: u64,
}

/// `POST /_sim/accounts`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    project: String,
    name: String,
    #[serde(default)]
    with_key: bool,
}

/// `POST /_sim/owner`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    admin_key_id: String,
    service_account_id: Option<String>,
}

/// `POST /_sim/costs`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    project: String,
    amount: Option<f64>,
    #[serde(default)]
    api_key: Option<String>,
    #[serde(default)]
    user: Option<String>,
}

/// `POST /_sim/project`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangedProject {
    id: String,
    /// The organization's default project.
    #[serde(default)]
    is_default: bool,
    /// The project is asked at the wrong host.
    #[serde(default)]
    is_elsewhere: bool,
}

/// `POST /_sim/permission`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Permission {
    /// Every admin key may only read.
    reads_only: bool,
}

/// Error text of a control call.
type ControlError = String;

impl Shared {
    /// Answers a control call; `path` is the part after `/_sim`.
    pub fn control(&self, method: &str, path: &str, body: &Bytes) -> Reply {
        match self.controlled(method, path, body) {
            Some(Ok(value)) => Reply::json(200, &value),
            Some(Err(message)) => Reply::json(400, &json!({"error": message})),
            None => Reply::json(404, &json!({"error": format!("no control {method} /_sim{path}")})),
        }
    }

    fn controlled(&self, method: &str, path: &str, body: &Bytes) -> Option<Result<Value, ControlError>> {
        Some(match (method, path) {
            ("GET", "/state") => Ok(json!(self.state())),
            ("GET", "/calls") => Ok(json!(self.traffic().log())),
            ("POST", "/faults") => read(body).map(|fault| json!({"id": self.traffic().add_fault(fault)})),
            ("DELETE", "/faults") => {
                self.traffic().clear_faults();
                Ok(json!({}))
            }
            ("DELETE", one) if one.starts_with("/faults/") => self.remove_fault(&one["/faults/".len()..]),
            ("POST", "/limit") => done(read(body).map(|limit| self.traffic().set_limit(limit))),
            ("DELETE", "/limit") => {
                self.traffic().clear_limits();
                Ok(json!({}))
            }
            ("POST", "/latency") => done(read(body).map(|Latency { ms }| self.slow_down(ms))),
            ("POST", "/lag") => done(read(body).map(|lag| self.world().lag = Some(lag))),
            ("DELETE", "/lag") => {
                self.world().lag = None;
                Ok(json!({}))
            }
            ("POST", "/clock") => done(read(body).map(|Advance { advance_ms }| {
                self.clock.advance(Duration::from_millis(advance_ms));
            })),
            ("POST", "/federation") => {
                done(read(body).map(|switches| self.world().federated.switches = switches))
            }
            ("POST", "/policy") => done(read(body).map(|policy| self.world().policy = policy)),
            ("POST", "/accounts") => read(body).and_then(|new| self.new_account(&new)),
            ("POST", "/owner") => done(read(body).and_then(|owner| self.own(owner))),
            ("POST", "/costs") => done(read(body).map(|cost: Cost| {
                self.spend(&cost.project, cost.amount, cost.api_key, cost.user);
            })),
            ("POST", "/project") => done(read(body).and_then(|project: ChangedProject| {
                self.change_project(&project.id, project.is_default, project.is_elsewhere)
            })),
            ("POST", "/permission") => {
                done(read(body).map(|Permission { reads_only }| self.restrict_admin_keys(reads_only)))
            }
            ("POST", "/reset") => {
                self.reset();
                Ok(json!({}))
            }
            _ => return None,
        })
    }

    /// The current state.
    pub fn state(&self) -> State {
        State::of(&self.world(), &self.traffic())
    }

    fn slow_down(&self, ms: u64) {
        self.traffic().set_latency(Duration::from_millis(ms));
    }

    fn remove_fault(&self, number: &str) -> Result<Value, ControlError> {
        let removed = number.parse().is_ok_and(|number| self.traffic().remove_fault(number));
        if removed { Ok(json!({})) } else { Err(format!("no fault {number}")) }
    }

    fn new_account(&self, new: &NewAccount) -> Result<Value, ControlError> {
        let Seeded { id, key } = self.seed(&new.project, &new.name, new.with_key)?;
        Ok(json!({"id": id, "key": key.map(|(id, value)| json!({"id": id, "value": value}))}))
    }

    /// Creates an account with or without a key. Lag does not apply to the account.
    pub fn seed(&self, project: &str, name: &str, with_key: bool) -> Result<Seeded, ControlError> {
        let mut world = self.world();
        world.active_project(project).map_err(|refusal| refusal.message)?;
        let serial = world.add_account(project, name.to_owned(), "member");
        let id = world.accounts[&serial].id.clone();
        let name = super::accounts::FIRST_KEY.to_owned();
        let key = if with_key { world.add_key(serial, name, Vec::new(), None) } else { None };
        let key = key.map(|key| (key.id.clone(), key.value.clone()));
        world.accounts.values_mut().filter(|one| one.id == id).for_each(|one| one.made = None);
        let theirs = world.keys.values_mut().filter(|one| one.account == serial);
        theirs.for_each(|one| one.made = None);
        Ok(Seeded { id, key })
    }

    fn own(&self, owner: Owner) -> Result<(), ControlError> {
        let mut world = self.world();
        let key = world.admin_keys.values_mut().find(|key| key.id == owner.admin_key_id);
        let key = key.ok_or_else(|| format!("no admin key {}", owner.admin_key_id))?;
        key.owner = owner.service_account_id;
        Ok(())
    }

    /// Records spending of a project at the current time. Without an amount OpenAI sends null.
    pub fn spend(&self, project: &str, amount: Option<f64>, api_key: Option<String>, user: Option<String>) {
        let mut world = self.world();
        let (project, at) = (project.to_owned(), world.now());
        world.spending.push(super::world::Spending { project, at, amount, api_key, user });
    }

    /// Makes a project the default one, or one that is asked at the wrong host.
    pub fn change_project(&self, id: &str, is_default: bool, is_elsewhere: bool) -> Result<(), ControlError> {
        let mut world = self.world();
        let project = world.projects.iter_mut().find(|project| project.id == id);
        let project = project.ok_or_else(|| format!("no project {id}"))?;
        (project.is_default, project.is_elsewhere) = (is_default, is_elsewhere);
        Ok(())
    }

    /// Restricts every admin key to reading, or lifts that. Later keys are not restricted.
    pub fn restrict_admin_keys(&self, reads_only: bool) {
        self.world().admin_keys.values_mut().for_each(|key| key.reads_only = reads_only);
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, ControlError> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn done(result: Result<(), ControlError>) -> Result<Value, ControlError> {
    result.map(|()| json!({}))
}
