//! `creds/:name`: creates a credential for each lease. `credential_end.rs` ends the credential. For a role with access
//! tokens, `federation/` answers instead, on any node.
//!
//! A read has four steps. They are the steps 3 to 5 in the map of `lib.rs`. If the plugin or the server dies, the last
//! completed step decides what the next process must end. That is the restarted plugin, or the plugin on the new leader:
//! 1. *The request has joined a window.* The window's write-ahead entry is stored, and nothing exists at OpenAI. The next
//!    process finds the entry, looks for its credentials, and deletes the entry.
//! 2. *OpenAI was asked to create the credential*, and may have done so. The ledger has no record, and nobody has the
//!    key. The next process finds the entry and ends the credential; `windows/recovery.rs` says when. A restored backup
//!    may lack the record of a credential that is in use, so a used key gets a ledger record instead.
//! 3. *The ledger record is stored.* Perhaps nobody has the key, but no process can know that. The credential lives until
//!    its own end; then the ledger's worker removes the credential.
//! 4. *The response is sent.* If the server dies before it stores the lease, step 3 applies. Otherwise the lease ends
//!    the credential.
//!
//! A request that fails ends what it created. If OpenAI refused the creation, or if the end fails or proves nothing, the
//! name stays unsettled in the window, and the tick looks the name up 3 minutes later.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::engine::accounts::deletion::Undone;
use crate::engine::accounts::lookup::UniqueName;
use crate::engine::config::clients::Configured;
use crate::engine::config::{checks, clients, metadata, named_projects};
use crate::engine::creds::caller::Caller;
use crate::engine::creds::issuer::{Created, Failure, Remains};
use crate::engine::creds::ledger::{Credential, LEDGER};
use crate::engine::creds::role::Role;
use crate::engine::creds::windows::{Target, WindowGuard};
use crate::engine::creds::{credential_end, issuer, ledger, scopes};
use crate::engine::failpoint::failpoint;
use crate::engine::federation::role::FederatedRole;
use crate::engine::federation::tokens;
use crate::engine::telemetry::events::EventKind;
use crate::engine::time::{key_lifetime, rfc3339, seconds};
use crate::engine::{Engine, Error};
use crate::framework::{Call, Field, Help, LeaseType, Name, Path, ResponseField};
use crate::logical::{Operation, Response, Storage, StorageError, Writable};
use crate::openai::{Client, LONGEST_EXPIRY, OrganizationId, ProjectId, Urgency};

pub(in crate::engine) static CREDENTIAL: LeaseType = LeaseType::new("service_account_key");

/// Maximum wait of a read for OpenAI. Vault cancels a request after 90 s.
const MAX_WAIT: Duration = Duration::from_secs(45);

static NAME: Field<Name> = Field::new("name", "Name of the role.");
static TTL: Field<Duration> =
    Field::new("ttl", "Lifetime of this credential, at most the role's max_ttl. Default: the role's ttl.")
        .query();
static SCOPES: Field<Vec<String>> = Field::new(
    "scopes",
    "Permissions of this credential, which must be among the role's scopes; any if the role has none. Default: \
    the role's scopes.",
)
.query()
.distinct();

const HELP: Help = Help {
    synopsis: "Create an OpenAI API key or an access token for a role.",
    description: "\
Creates a service account with a key, or a key on the role's account. The key lives as long as its lease. The lease cannot \
be renewed: read a new credential before it ends.

For a role with credential_type=access_token it answers an access token, which has no lease and ends by itself at \
expires_at. Clients read again after ttl.

    $ vault read openai/creds/app
    $ vault read openai/creds/app ttl=30m scopes=api.model.read",
};

const ANSWER: &[ResponseField] = &[
    ResponseField::new::<String>("api_key", "The key.").sensitive(),
    ResponseField::new::<String>("api_key_id", "OpenAI's id of the key."),
    ResponseField::new::<String>("service_account", "Name of the service account."),
    ResponseField::new::<String>("service_account_id", "OpenAI's id of the service account."),
    ResponseField::new::<DateTime<Utc>>(
        "expires_at",
        "Time at which the key or the token expires at OpenAI by itself; empty if OpenAI names none.",
    ),
    ResponseField::new::<String>("access_token", "The token of a role with access tokens.").sensitive(),
    ResponseField::new::<String>("token_type", "Bearer, with access_token."),
    ResponseField::new::<String>("scope", "Permissions of the token; empty for those of its account."),
    ResponseField::new::<String>("role", "Name of the role."),
    ResponseField::new::<String>("project_id", "OpenAI's id of the project."),
    metadata::ECHO_ANSWER,
    ResponseField::new::<DateTime<Utc>>(
        "last_vault_rotation",
        "Time at which the token was given, with access_token. The Vault Secrets Operator asks for it.",
    ),
    ResponseField::new::<Duration>("rotation_period", "Lifetime of a token, in seconds."),
    ResponseField::new::<Duration>("ttl", "Seconds until clients should read again, with access_token."),
];

/// A read, with everything that the creation of its credential needs.
struct IssueRequest {
    role_name: Name,
    role: Arc<Role>,
    caller: Caller,
    /// Scopes that the reader asks for.
    scopes: Option<Vec<String>>,
    organization_id: OrganizationId,
    project_id: ProjectId,
    ttl: Duration,
    /// Time after which OpenAI ends the key.
    expires_in: Duration,
    /// Warning for the reader.
    warning: Option<String>,
}

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("creds/:name", HELP)
            .field(&NAME)
            .field(&TTL)
            .field(&SCOPES)
            .on(Operation::Read, read)
            .on(Operation::Update, read)
            .answered_anywhere(Operation::Update)
            .responds(Operation::Read, ANSWER)
            .responds(Operation::Update, ANSWER),
    ]
}

async fn read(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let (storage, name) = (call.storage(), call.get(&NAME)?);
    if let Some(role) = federated_role(&engine, &**storage, &name).await? {
        if call.sent(&SCOPES)?.is_some_and(|scopes| !scopes.is_empty()) {
            return Err(Error::field(
                "scopes does not apply to a role with credential_type=access_token: OpenAI narrows its tokens to the role's \
                 scopes",
            ));
        }
        return tokens::access_token(&engine, &**storage, &name, &role, call.sent(&TTL)?).await.map(Some);
    }
    // A key needs a record in local storage.
    if engine.system.writable().await? < Writable::LocalOnly {
        return Err(StorageError::ReadOnly.into());
    }
    read_key(&engine, &call).await.map(Some)
}

/// The role with access tokens of this name. A role in memory is returned without a read of storage.
async fn federated_role(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
) -> Result<Option<Arc<FederatedRole>>, Error> {
    if let Some(role) = engine.federation.roles.peek(name) {
        return Ok(Some(role));
    }
    match engine.creds.roles.get(storage, name).await? {
        Some(_) => Ok(None),
        None => Ok(engine.federation.roles.get(storage, name).await?),
    }
}

async fn read_key(engine: &Arc<Engine>, call: &Call) -> Result<Response, Error> {
    let storage = call.storage();
    let (request, client) = IssueRequest::new(engine, call).await?;
    let mut guard = engine.creds.windows.join(storage, request.target()).await?;
    failpoint!("creds.joined");
    let created = request.create(engine, &client, &mut guard).await;
    let (made, credential) = created.inspect_err(|_| request.emit(engine, EventKind::CredsCreateFail))?;
    record(&client, &**storage, &credential, &mut guard).await?;
    engine.creds.live.add(&credential);
    if let Err(error) = guard.check_age() {
        return Err(revoke_late(engine, storage, &credential, &mut guard, error).await);
    }
    guard.settle(&credential.name);
    // The end of the credential notes its age again, so memory need not keep the ids of every read.
    client.recent_ids().forget(credential.api_key_id.as_str());
    if credential.with_account {
        client.recent_ids().forget(credential.service_account_id.as_str());
    }
    engine.metrics.credential_issued(&request.role_name);
    request.emit(engine, EventKind::CredsCreate);
    let lease = CREDENTIAL.grant(&credential, request.ttl, Duration::ZERO, false)?;
    let mut response = request.response(&made, &credential).with_lease(lease);
    response.warnings.extend(request.warning);
    Ok(response)
}

impl IssueRequest {
    async fn new(engine: &Engine, call: &Call) -> Result<(Self, Client), Error> {
        let (storage, role_name) = (&**call.storage(), call.get(&NAME)?);
        let role = engine.creds.roles.get(storage, &role_name).await?;
        let role = role.ok_or_else(|| Error::NotFound { kind: "role", name: role_name.to_string() })?;
        let (ttl, warning) = ttl(engine, &role, call.sent(&TTL)?).await?;
        let asked = call.sent(&SCOPES)?.filter(|asked| !asked.is_empty());
        let scopes = asked.map(|asked| scopes::narrowed(&role.scopes, asked)).transpose()?;
        let caller = Caller::of(engine, &call.request, role.template()?).await?;
        let Configured { config, client } = clients::configured(engine, storage).await?;
        let project_id =
            named_projects::project_id(engine, storage, &role.project, role.project_id.as_ref()).await?;
        let request = Self {
            role_name,
            role,
            caller,
            scopes,
            organization_id: config.organization_id.clone(),
            project_id,
            ttl,
            expires_in: ttl.saturating_add(config.key_expiry_margin).min(LONGEST_EXPIRY),
            warning,
        };
        Ok((request, client.for_work(Urgency::Issue, MAX_WAIT)))
    }

    /// The place at OpenAI where the credential is created.
    fn target(&self) -> Target {
        Target {
            organization_id: self.organization_id.clone(),
            project_id: self.project_id.clone(),
            service_account_id: self.role.service_account_id.clone(),
        }
    }

    /// Creates the credential: a key, or an account with a key. If OpenAI refuses ttl plus margin as the lifetime, a second
    /// attempt asks for the ttl alone, as the later reads of the next hour do at once.
    async fn create(
        &self,
        engine: &Engine,
        client: &Client,
        guard: &mut WindowGuard,
    ) -> Result<(Created, Credential), Error> {
        let refused = &engine.creds.refused_lifetimes;
        let is_refused = refused.contains(&self.project_id, self.expires_in);
        let expires_in = if is_refused { self.ttl } else { self.expires_in };
        let mut created = self.attempt(engine, client, guard, expires_in).await;
        if expires_in > self.ttl && created.as_ref().is_err_and(key_lifetime::is_about) {
            created = self.attempt(engine, client, guard, self.ttl).await;
            if created.is_ok() {
                refused.insert(&self.project_id, expires_in);
            }
        }
        created.map_err(|error| self.explain(error))
    }

    /// One attempt, under a name of its own: a refusal does not prove that OpenAI created nothing of the name. The name
    /// refers to the window and to the place of the ledger record.
    async fn attempt(
        &self,
        engine: &Engine,
        client: &Client,
        guard: &mut WindowGuard,
        expires_in: Duration,
    ) -> Result<(Created, Credential), Error> {
        let end = engine.latest_time() + self.ttl;
        let stamp = guard.stamp(end).to_string();
        let name = self.role.new_name(&engine.tag, &self.role_name, &self.caller, &stamp)?;
        let account = self.role.service_account_id.as_ref();
        let unique_name = UniqueName { project: &self.project_id, account, name: &name };
        guard.register(&name)?;
        let scopes = self.scopes.as_ref().unwrap_or(&self.role.scopes);
        match issuer::create(client, &unique_name, Some(expires_in), scopes).await {
            Ok(made) => {
                failpoint!("creds.made");
                let credential = self.credential(&made, name, end, engine.now());
                Ok((made, credential))
            }
            Err(failure) => Err(undo(client, &unique_name, failure, guard).await),
        }
    }

    /// Adds the role, account or field to a refusal.
    fn explain(&self, error: Error) -> Error {
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

    /// The created credential, with the end of its lease. A key without an expiry is dead only when it is deleted.
    fn credential(
        &self,
        made: &Created,
        name: String,
        ends: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Credential {
        Credential {
            organization_id: self.organization_id.clone(),
            project_id: self.project_id.clone(),
            service_account_id: made.service_account_id.clone(),
            api_key_id: made.key.id.clone(),
            name,
            with_account: self.role.service_account_id.is_none(),
            role: self.role_name.to_string(),
            ends,
            expires: made.key.expires_at,
            made: Some(now),
        }
    }

    /// Name of the account: of the role's account, or of the new account. A role stored by an early version has no
    /// name; then the id serves until the role is written again.
    fn account_name<'a>(&'a self, credential: &'a Credential) -> &'a str {
        match (&self.role.account_name, &self.role.service_account_id) {
            (Some(name), Some(_)) => name,
            (None, Some(id)) => id.as_str(),
            (_, None) => &credential.name,
        }
    }

    fn emit(&self, engine: &Engine, kind: EventKind) {
        engine.events.emit_with(kind, &format!("creds/{}", self.role_name), &self.role.metadata);
    }

    fn response(&self, made: &Created, credential: &Credential) -> Response {
        let expires = credential.expires.map(rfc3339::text).unwrap_or_default();
        Response::of([
            ("api_key", Value::from(made.key.value.expose())),
            ("api_key_id", credential.api_key_id.as_str().into()),
            ("service_account", self.account_name(credential).into()),
            ("service_account_id", credential.service_account_id.as_str().into()),
            ("expires_at", expires.into()),
            ("role", credential.role.as_str().into()),
            ("project_id", credential.project_id.as_str().into()),
            (metadata::ECHO, metadata::shown(&self.role.metadata)),
        ])
    }
}

/// Undoes a failed creation at once. If OpenAI may still have the credential, the name stays unsettled.
async fn undo(
    client: &Client,
    unique_name: &UniqueName<'_>,
    failure: Failure,
    guard: &mut WindowGuard,
) -> Error {
    let Failure { error, remains } = failure;
    match remains {
        Remains::Nothing => {
            failpoint!("creds.not_made");
            guard.settle(unique_name.name);
            error
        }
        // The name stays unsettled: OpenAI sometimes creates what it refuses.
        Remains::Refused => error,
        Remains::Unknown => match issuer::end_at_once(client, unique_name).await {
            Some(Undone::Ended) => {
                failpoint!("creds.undone");
                guard.settle(unique_name.name);
                error
            }
            Some(Undone::NothingFound) | None => Error::LeftBehind(Box::new(error)),
        },
    }
}

/// Writes the ledger record. If the request is too old or the write fails, the credential is ended instead. The name is
/// not settled yet.
async fn record(
    client: &Client,
    storage: &dyn Storage,
    credential: &Credential,
    guard: &mut WindowGuard,
) -> Result<(), Error> {
    if let Err(error) = guard.check_age() {
        return Err(discard(client, credential, guard, error).await);
    }
    if let Err(error) =
        LEDGER.put(storage, &credential.place(), &ledger::Entry::new(credential.clone())).await
    {
        failpoint!("creds.not_recorded");
        return Err(discard(client, credential, guard, error.into()).await);
    }
    failpoint!("creds.recorded");
    Ok(())
}

/// Ends a credential whose record was written too late: another node may have ended it before the write. If OpenAI
/// does not end the credential now, the name stays unsettled, and the tick ends the credential.
async fn revoke_late(
    engine: &Arc<Engine>,
    storage: &Arc<dyn Storage>,
    credential: &Credential,
    guard: &mut WindowGuard,
    error: Error,
) -> Error {
    match credential_end::revoke_credential(engine, storage, credential).await {
        Ok(()) => {
            guard.settle(&credential.name);
            error
        }
        Err(_) => Error::LeftBehind(Box::new(error)),
    }
}

/// Lifetime of the credential, within the limits of the role and the mount. The mount's limit cuts a longer ttl and
/// gives a warning.
async fn ttl(
    engine: &Engine,
    role: &Role,
    requested: Option<Duration>,
) -> Result<(Duration, Option<String>), Error> {
    let limit = engine.system.max_lease_ttl().await?;
    let ttl = match requested {
        None if role.ttl.is_zero() => {
            let default = engine.system.default_lease_ttl().await?;
            return Ok((default.min(role.longest_ttl()).min(limit), None));
        }
        requested => requested.unwrap_or(role.ttl),
    };
    checks::check_requested_ttl(ttl, role.longest_ttl(), "role")?;
    Ok((ttl.min(limit), checks::warn_above_mount_limit("ttl", ttl, limit)))
}

/// Ends a credential that the reader does not get.
async fn discard(client: &Client, credential: &Credential, guard: &mut WindowGuard, error: Error) -> Error {
    if !issuer::delete_new(client, credential).await {
        return Error::LeftBehind(Box::new(error));
    }
    failpoint!("creds.taken_back");
    guard.settle(&credential.name);
    error
}
