//! `creds/:name`: a key for each lease. How it ends is `credential_end`'s.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::engine::accounts::lookup::Sought;
use crate::engine::config::checks;
use crate::engine::config::clients::Configured;
use crate::engine::creds::credential_end;
use crate::engine::creds::issuer;
use crate::engine::creds::issuer::{Failure, Left, Made};
use crate::engine::creds::ledger;
use crate::engine::creds::ledger::{Handed, LEDGER};
use crate::engine::creds::roles::Role;
use crate::engine::creds::windows::{Inside, Triple};
use crate::engine::failpoint::failpoint;
use crate::engine::telemetry::events::Happening;
use crate::engine::time::{key_lifetime, rfc3339, seconds};
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Help, LeaseType, Name, Path, ResponseField};
use crate::logical::{Operation, Response, Storage};
use crate::openai::{Client, LONGEST_EXPIRY, OrganizationId, ProjectId, Urgency};

pub(in crate::engine) static CREDENTIAL: LeaseType = LeaseType::new("service_account_key");

/// As long as a read waits for OpenAI; Vault gives up after 90 s.
const PATIENCE: Duration = Duration::from_secs(45);

static NAME: Field<Name> = Field::new("name", "Name of the role.");
static TTL: Field<Duration> =
    Field::new("ttl", "Lifetime of this credential, at most the role's max_ttl. Default: the role's ttl.")
        .query();

const HELP: Help = Help {
    synopsis: "Create an OpenAI API key for a role.",
    description: "\
Creates a service account with a key, or a key on the role's account. The key lives as long as its lease. The lease cannot \
be renewed: read a new credential before it ends.

    $ vault read openai/creds/app
    $ vault read openai/creds/app ttl=30m",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("api_key", "The key.").sensitive(),
    ResponseField::new::<String>("api_key_id", "OpenAI's id of the key."),
    ResponseField::new::<String>("service_account", "Name of the service account."),
    ResponseField::new::<String>("service_account_id", "OpenAI's id of the service account."),
    ResponseField::new::<DateTime<Utc>>("expires_at", "Time at which the key expires at OpenAI by itself."),
];

/// What is asked for, and what it takes to make it.
struct Wish {
    role_name: Name,
    role: Arc<Role>,
    organization_id: OrganizationId,
    project_id: ProjectId,
    ttl: Duration,
    /// How long OpenAI lets the key live.
    expires_in: Duration,
    /// What the reader should know.
    warning: Option<String>,
}

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("creds/:name", HELP)
            .field(&NAME)
            .field(&TTL)
            .on(Operation::Read, read)
            .on(Operation::Update, read)
            .writes_locally(Operation::Read)
            .writes_locally(Operation::Update)
            .responds(Operation::Read, ANSWER)
            .responds(Operation::Update, ANSWER),
    ]
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let storage = call.storage();
    let (wish, client) = Wish::of(&engine, &call).await?;
    let mut inside = engine.windows.join(storage, wish.triple()).await?;
    failpoint!("creds.joined");
    let issued = wish.issue(&engine, &client, &mut inside).await;
    let (made, handed) = issued.inspect_err(|_| wish.tell(&engine, Happening::CredsCreateFail))?;
    record(&client, &**storage, &handed, &mut inside).await?;
    if let Err(error) = inside.check_time() {
        return Err(withdraw(&engine, storage, &handed, error).await);
    }
    engine.metrics.credential_issued(&wish.role_name);
    wish.tell(&engine, Happening::CredsCreate);
    let lease = CREDENTIAL.grant(&handed, wish.ttl, Duration::ZERO, false)?;
    let mut answer = answer(made, &handed, wish.account_name(&handed)).with_lease(lease);
    answer.warnings.extend(wish.warning);
    Ok(Some(answer))
}

impl Wish {
    async fn of(engine: &Engine, call: &Call) -> Result<(Self, Client), Error> {
        let (storage, role_name) = (&**call.storage(), call.get(&NAME)?);
        let role = engine.roles.get(storage, &role_name).await?;
        let role = role.ok_or_else(|| Error::NotFound { kind: "role", name: role_name.to_string() })?;
        let (ttl, warning) = ttl(engine, &role, call.sent(&TTL)?).await?;
        let Configured { config, client } = engine.configured(storage).await?;
        let project_id = engine.project_id(storage, &role.project, role.project_id.as_ref()).await?;
        let wish = Self {
            role_name,
            role,
            organization_id: config.organization_id.clone(),
            project_id,
            ttl,
            expires_in: ttl.saturating_add(config.key_expiry_margin).min(LONGEST_EXPIRY),
            warning,
        };
        Ok((wish, client.for_work(Urgency::Issue, PATIENCE)))
    }

    /// Where it is made.
    fn triple(&self) -> Triple {
        Triple {
            organization_id: self.organization_id.clone(),
            project_id: self.project_id.clone(),
            service_account_id: self.role.service_account_id.clone(),
        }
    }

    /// Makes a key, or an account with one, under a name that tells where it is recorded and in which window it was made.
    /// Where a policy of the organization does not let a key live for ttl and margin, the margin gives way.
    async fn issue(
        &self,
        engine: &Engine,
        client: &Client,
        inside: &mut Inside,
    ) -> Result<(Made, Handed), Error> {
        let issued = match self.make(engine, client, inside, self.expires_in).await {
            Err(error) if self.expires_in > self.ttl && key_lifetime::is_about(&error) => {
                self.make(engine, client, inside, self.ttl).await
            }
            issued => issued,
        };
        issued.map_err(|error| self.explained(error))
    }

    /// Makes it under a name of its own: a refusal does not prove that nothing stands by the name.
    async fn make(
        &self,
        engine: &Engine,
        client: &Client,
        inside: &mut Inside,
        expires_in: Duration,
    ) -> Result<(Made, Handed), Error> {
        let ends = engine.latest_time() + self.ttl;
        let name = self.role.new_name(&engine.tag, &self.role_name, &inside.stamp(ends).to_string())?;
        let account = self.role.service_account_id.as_ref();
        let sought = Sought { project: &self.project_id, account, name: &name };
        inside.sends(&name)?;
        match issuer::make(client, &sought, Some(expires_in), &self.role.scopes).await {
            Ok(made) => {
                failpoint!("creds.made");
                let handed = self.handed(&made, name, ends, engine.latest_time());
                Ok((made, handed))
            }
            Err(failure) => Err(undo(client, &sought, failure, inside).await),
        }
    }

    /// A refusal with the role, account or field that it is about.
    fn explained(&self, error: Error) -> Error {
        match (&self.role.service_account_id, error) {
            (Some(account), Error::KeyCreation(error)) if error.is_gone() => {
                let role = self.role_name.to_string();
                Error::RoleAccountGone { role, account: account.clone(), error }
            }
            (_, error) => key_lifetime::explained(error, || {
                let ttl = seconds::text(self.ttl);
                format!(
                    "the key of a credential lives for its ttl, which is {ttl}: ask for a shorter ttl, or lower that of \
                     role {:?}",
                    self.role_name.to_string()
                )
            }),
        }
    }

    fn handed(&self, made: &Made, name: String, ends: DateTime<Utc>, now: DateTime<Utc>) -> Handed {
        Handed {
            organization_id: self.organization_id.clone(),
            project_id: self.project_id.clone(),
            service_account_id: made.service_account_id.clone(),
            api_key_id: made.key.id.clone(),
            name,
            with_account: self.role.service_account_id.is_none(),
            role: self.role_name.to_string(),
            ends,
            expires: Some(made.key.expires_at.unwrap_or(now + self.expires_in)),
            made: Some(now),
        }
    }

    /// The account's name: the role's own account's, or that of the account just made. A role that was stored by a
    /// version that did not keep the name answers the id until it is written again.
    fn account_name<'a>(&'a self, handed: &'a Handed) -> &'a str {
        match (&self.role.account_name, &self.role.service_account_id) {
            (Some(name), Some(_)) => name,
            (None, Some(id)) => id.as_str(),
            (_, None) => &handed.name,
        }
    }

    fn tell(&self, engine: &Engine, happening: Happening) {
        engine.tell(happening, &format!("creds/{}", self.role_name));
    }
}

/// Undoes at once what a creation that failed may have left. What it cannot find, the window's entry names.
async fn undo(client: &Client, sought: &Sought<'_>, failure: Failure, inside: &mut Inside) -> Error {
    let Failure { error, left } = failure;
    match left {
        Left::Nothing => {
            failpoint!("creds.not_made");
            inside.settle(sought.name);
            error
        }
        // It stays to be looked up.
        Left::Refused => error,
        Left::Unknown if issuer::take_back_sought(client, sought).await => {
            failpoint!("creds.undone");
            inside.settle(sought.name);
            error
        }
        Left::Unknown => Error::LeftBehind(Box::new(error)),
    }
}

/// Puts on record what was made, while its request may go on; else it is taken back.
async fn record(
    client: &Client,
    storage: &dyn Storage,
    handed: &Handed,
    inside: &mut Inside,
) -> Result<(), Error> {
    if let Err(error) = inside.check_time() {
        return Err(take_back(client, handed, inside, error).await);
    }
    if let Err(error) = LEDGER.put(storage, &handed.place(), &ledger::Entry::new(handed.clone())).await {
        failpoint!("creds.not_recorded");
        return Err(take_back(client, handed, inside, error.into()).await);
    }
    inside.settle(&handed.name);
    failpoint!("creds.recorded");
    Ok(())
}

/// Ends a credential whose record came too late for an answer: another node may have looked it up before. If OpenAI does
/// not end it now, its record has the next tick do so.
async fn withdraw(engine: &Arc<Engine>, storage: &Arc<dyn Storage>, handed: &Handed, error: Error) -> Error {
    match credential_end::revoke_handed(engine, storage, handed).await {
        Ok(()) => error,
        Err(_) => Error::LeftBehind(Box::new(error)),
    }
}

fn answer(made: Made, handed: &Handed, account_name: &str) -> Response {
    let expires = handed.expires.map(rfc3339::text).unwrap_or_default();
    Response::of([
        ("api_key", Value::from(made.key.value.expose())),
        ("api_key_id", Value::from(handed.api_key_id.as_str())),
        ("service_account", Value::from(account_name)),
        ("service_account_id", Value::from(handed.service_account_id.as_str())),
        ("expires_at", Value::from(expires)),
    ])
}

/// The time that a credential lives: never above what the role or the mount allows. With a warning if the mount allows
/// less than was asked for.
async fn ttl(
    engine: &Engine,
    role: &Role,
    asked: Option<Duration>,
) -> Result<(Duration, Option<String>), Error> {
    let limit = engine.system.max_lease_ttl().await?;
    let ttl = match asked {
        None if role.ttl.is_zero() => {
            let default = engine.system.default_lease_ttl().await?;
            return Ok((default.min(role.longest_ttl()).min(limit), None));
        }
        asked => asked.unwrap_or(role.ttl),
    };
    checks::asked_ttl(ttl, role.longest_ttl(), "role")?;
    Ok((ttl.min(limit), checks::cut_by_mount("ttl", ttl, limit)))
}

/// Ends what nobody gets.
async fn take_back(client: &Client, handed: &Handed, inside: &mut Inside, error: Error) -> Error {
    if !issuer::take_back(client, handed).await {
        return Error::LeftBehind(Box::new(error));
    }
    failpoint!("creds.taken_back");
    inside.settle(&handed.name);
    error
}
