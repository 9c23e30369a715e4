//! Writes and deletions of roles with `credential_type=access_token`. `creds/path_roles.rs` has the path and its fields.
//!
//! *Guarantees:* the record that says what is wanted is stored before OpenAI is asked. If OpenAI refuses a new role, what
//! was made for it is removed; if OpenAI refuses a change, the settings before stay. After any other failure the record
//! stays, and the worker completes the work. A stop stays in any case: the role hands out no more tokens.

use std::sync::Arc;
use std::time::Duration;

use super::provider::{self, MAX_WAIT};
use super::record::{self, Federation, Provider};
use super::role::{FederatedRole, Managed, Settings, owner};
use super::role_ending;
use super::role_registration::{MOST_RULES, is_refusal, name_rule, register};
use super::role_work::{Work, mark, put, remove};
use crate::engine::accounts::claims;
use crate::engine::accounts::kind::Mount;
use crate::engine::accounts::making::MakingList;
use crate::engine::accounts::retry::RetryState;
use crate::engine::config::metadata::Metadata;
use crate::engine::config::project_fields::NamedProject;
use crate::engine::config::{clients, key_records, named_projects, project_fields};
use crate::engine::time::seconds;
use crate::engine::{DEPENDENTS, Engine, Error};
use crate::framework::LockGuard;
use crate::logical::Storage;
use crate::openai::{Client, IdentityProviderId, OrganizationId, ProjectId, ServiceAccountId, Urgency};

/// Lifetime of a token without a ttl.
pub(in crate::engine) const DEFAULT_TTL: Duration = Duration::from_secs(900);
/// The longest lifetime of a token at OpenAI.
pub(in crate::engine) const LONGEST_TTL: Duration = Duration::from_secs(3_600);
/// From so many rules on, a write warns of the limit.
const MANY_RULES: usize = 45;
const ACCOUNT: &str = "service_account_id";

/// The fields of a write. `None` is a field that was not sent.
pub(in crate::engine) struct RoleWrite {
    pub(in crate::engine) name: String,
    /// The project after the write.
    pub(in crate::engine) project: NamedProject,
    pub(in crate::engine) account: SentAccount,
    pub(in crate::engine) scopes: Option<Vec<String>>,
    pub(in crate::engine) ttl: Option<Duration>,
    pub(in crate::engine) enabled: Option<bool>,
    /// The labels after the write.
    pub(in crate::engine) metadata: Metadata,
}

/// `service_account_id` of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) enum SentAccount {
    /// The field was not sent.
    Not,
    /// The field was sent empty: Vault makes an account.
    Empty,
    /// An existing account.
    Given(ServiceAccountId),
}

/// Where the rules of a managed provider are made.
struct Home {
    organization: OrganizationId,
    provider: IdentityProviderId,
    client: Client,
}

/// Writes the role and answers warnings. The caller holds the role's lock.
pub(in crate::engine) async fn write(
    engine: &Engine,
    storage: &dyn Storage,
    write: RoleWrite,
    old: Option<Arc<FederatedRole>>,
) -> Result<Vec<String>, Error> {
    match old {
        Some(old) if old.deleted.is_none() => update(engine, storage, write, &old).await,
        Some(tombstone) => {
            let earlier = finish(engine, storage, &write.name, (*tombstone).clone()).await?;
            create(engine, storage, write, Some(earlier)).await
        }
        None => create(engine, storage, write, None).await,
    }
}

impl SentAccount {
    fn id(&self) -> Option<&ServiceAccountId> {
        match self {
            Self::Given(id) => Some(id),
            Self::Not | Self::Empty => None,
        }
    }
}

impl RoleWrite {
    fn settings(&self, old: Option<&Settings>, is_managed: bool) -> Result<Settings, Error> {
        let ttl = self.ttl.unwrap_or_else(|| old.map_or(DEFAULT_TTL, |old| old.ttl));
        if ttl.is_zero() || ttl > LONGEST_TTL {
            return Err(Error::field(format!(
                "ttl must be from 1s to {}, the longest that an access token lives, not {}",
                seconds::text(LONGEST_TTL),
                seconds::text(ttl)
            )));
        }
        let scopes = self.scopes.clone().or_else(|| old.map(|old| old.scopes.clone())).unwrap_or_default();
        if !is_managed && !scopes.is_empty() {
            return Err(Error::field(
                "scopes must be empty, because the provider is registered by hand: set the permissions of the mapping \
                 at OpenAI",
            ));
        }
        Ok(Settings {
            project: self.project.project.clone(),
            project_id: self.project.project_id.clone(),
            scopes,
            ttl,
            enabled: self.enabled.unwrap_or_else(|| old.is_none_or(|old| old.enabled)),
            metadata: self.metadata.clone(),
        })
    }
}

/// Completes the deletion of an earlier role of this name. Creations of it whose outcome is not known may be left.
async fn finish(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    mut role: FederatedRole,
) -> Result<FederatedRole, Error> {
    let work = Work::new(engine, storage, name, &role, MAX_WAIT).await?;
    role_ending::end(&work, &mut role).await?;
    if role.has_only_creations_left() { Ok(role) } else { Err(still_deleted(name)) }
}

fn still_deleted(name: &str) -> Error {
    Error::field(format!(
        "an earlier role {name:?} is being deleted, and what it asked of OpenAI is still looked for: try again in some \
         minutes"
    ))
}

/// The creations of an earlier role whose outcome is not known: the new role inherits them, and the worker looks for them.
/// It can do so in one organization and one provider only.
fn inherited(name: &str, earlier: Option<FederatedRole>, home: Option<&Home>) -> Result<MakingList, Error> {
    let Some(earlier) = earlier.filter(|earlier| !earlier.making.is_empty()) else {
        return Ok(MakingList::default());
    };
    let provider = earlier.managed.as_ref().map(|managed| &managed.provider_id);
    let is_near = home.is_some_and(|home| {
        provider == Some(&home.provider)
            && earlier.making.iter().all(|it| home.organization == it.organization_id)
    });
    if is_near { Ok(earlier.making) } else { Err(still_deleted(name)) }
}

async fn create(
    engine: &Engine,
    storage: &dyn Storage,
    write: RoleWrite,
    earlier: Option<FederatedRole>,
) -> Result<Vec<String>, Error> {
    let federation = federation(engine, storage).await?;
    let settings = write.settings(None, federation.provider.is_managed())?;
    let project = project_fields::agreed_project(engine, storage, &settings.named_project()).await?;
    let home = Home::of(engine, storage, &federation).await?;
    let making = inherited(&write.name, earlier, home.as_ref())?;
    let given = write.account.id().cloned();
    let mut warnings = Vec::new();
    match (&home, &given) {
        (Some(home), _) => {
            check_place(engine, storage, home, &settings, &project, given.as_ref()).await?;
            warnings.extend(check_room(home).await?);
        }
        (None, None) => {
            return Err(Error::field(
                "service_account_id is required, because the provider is registered by hand: name the account of the \
                 mapping at OpenAI",
            ));
        }
        (None, Some(_)) => {}
    }
    if let Some(account) = &given {
        refuse_used(engine, storage, &write.name, account).await?;
    }
    let role = FederatedRole {
        subject: federation.subject_of(&write.name),
        account_project_id: project,
        given_account_id: given,
        made_account: None,
        making,
        managed: home.as_ref().map(|home| Managed {
            organization_id: home.organization.clone(),
            provider_id: home.provider.clone(),
            rule_name: None,
            rule_id: None,
            is_applied: false,
            changed: None,
        }),
        since: engine.now(),
        deleted: None,
        retry: RetryState::default(),
        settings,
    };
    begin(engine, storage, &write.name, role).await?;
    Ok(warnings)
}

/// Stores the new role and registers it.
async fn begin(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    mut role: FederatedRole,
) -> Result<(), Error> {
    let is_managed = role.managed.is_some();
    let work = if is_managed { Some(Work::new(engine, storage, name, &role, MAX_WAIT).await?) } else { None };
    if let Some(work) = work.as_ref().filter(|_| role.given_account_id.is_some()) {
        name_rule(work, &mut role);
    }
    {
        // First: a rotation holds this lock during calls to OpenAI, and others of the project need not wait for that.
        let _no_end = engine.locks.lock(record::LOCK).await;
        let _no_deletion = engine.locks.lock(&named_projects::users_lock(&role.settings.project)).await;
        project_fields::agreed_project(engine, storage, &role.settings.named_project()).await?;
        if !is_of(&role, &*federation(engine, storage).await?) {
            return Err(Error::field("config/federation was deleted and written anew meanwhile: try again"));
        }
        if is_managed {
            mark(engine, storage, name).await?;
        }
        let _no_other_user = match &role.given_account_id {
            Some(account) => Some(claim(engine, storage, name, account).await?),
            None => None,
        };
        put(engine, storage, name, &role).await?;
    }
    let Some(work) = work else { return Ok(()) };
    let Err(error) = register(&work, &mut role, true).await else { return Ok(()) };
    if !is_refusal(&error) {
        return Err(pending(&work, role, error).await);
    }
    role.deleted = Some(engine.now());
    work.put(&role).await?;
    match role_ending::end(&work, &mut role).await {
        // The worker looks for an account that OpenAI made all the same.
        Ok(()) if role.has_only_creations_left() => Err(error),
        _ => Err(Error::LeftBehind(Box::new(error))),
    }
}

/// True if the role is made for this provider.
fn is_of(role: &FederatedRole, federation: &Federation) -> bool {
    match (&role.managed, &federation.provider) {
        (Some(managed), Provider::Managed { id, .. }) => id.as_ref() == Some(&managed.provider_id),
        (None, Provider::ByHand { .. }) => true,
        _ => false,
    }
}

/// The settings are stored, and the worker goes on.
async fn pending(work: &Work<'_>, mut role: FederatedRole, error: Error) -> Error {
    // A write whose outcome is unknown is not followed by another one.
    if !matches!(error, Error::Storage(_)) {
        role.retry.failed_by(work.name, &error, work.engine.now(), Duration::ZERO);
        // The worker finds the same without it.
        let _ = work.put(&role).await;
    }
    Error::Pending(Box::new(error))
}

async fn update(
    engine: &Engine,
    storage: &dyn Storage,
    write: RoleWrite,
    old: &FederatedRole,
) -> Result<Vec<String>, Error> {
    refuse_other_account(&write, old)?;
    let settings = write.settings(Some(&old.settings), old.managed.is_some())?;
    let no_deletion = engine.locks.lock(&named_projects::users_lock(&settings.project)).await;
    refuse_other_project(engine, storage, &settings, old).await?;
    let is_stop = old.settings.enabled && !settings.enabled;
    let mut role = FederatedRole { settings, ..old.clone() };
    if old.is_registered() && old.is_applied() {
        role.since = engine.now();
    }
    let Some(managed) = &mut role.managed else {
        put(engine, storage, &write.name, &role).await?;
        engine.federation.exchanges.forget(&write.name);
        return Ok(warn_of_rule_by_hand(&role));
    };
    managed.is_applied = false;
    role.retry.succeeded();
    let work = match Work::new(engine, storage, &write.name, &role, MAX_WAIT).await {
        // A stop is stored without a configuration, too.
        Err(error) if is_stop => Err(Error::Pending(Box::new(error))),
        work => Ok(work?),
    };
    mark(engine, storage, &write.name).await?;
    put(engine, storage, &write.name, &role).await?;
    engine.federation.exchanges.forget(&write.name);
    let work = work?;
    // From now on the record refuses the deletion, and others need not wait for OpenAI.
    drop(no_deletion);
    match register(&work, &mut role, false).await {
        Ok(()) => Ok(Vec::new()),
        Err(error) if is_refusal(&error) && old.has_only_look_ups_left() && !is_stop => {
            put(engine, storage, &write.name, old).await?;
            Err(error)
        }
        Err(error) => Err(pending(&work, role, error).await),
    }
}

fn warn_of_rule_by_hand(role: &FederatedRole) -> Vec<String> {
    let warning = (!role.settings.enabled).then(|| {
        "Vault hands out no more tokens of this role; disable its mapping at OpenAI as well, because the provider is \
         registered by hand"
            .to_owned()
    });
    warning.into_iter().collect()
}

/// Deletes the role. Answers a warning if something is left at OpenAI. The worker ends that, unless `force` removes the
/// record in any case. The caller holds the role's lock.
pub(in crate::engine) async fn delete(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    role: &FederatedRole,
    force: bool,
) -> Result<Option<String>, Error> {
    let mut role = role.clone();
    role.deleted = role.deleted.or_else(|| Some(engine.now()));
    role.retry.retry_now();
    role.making.try_now(|_| true);
    if role.is_over() {
        remove(engine, storage, name, &role).await?;
        engine.federation.exchanges.forget(name);
        return Ok(None);
    }
    mark(engine, storage, name).await?;
    put(engine, storage, name, &role).await?;
    engine.federation.exchanges.forget(name);
    let ended = match Work::new(engine, storage, name, &role, MAX_WAIT).await {
        Ok(work) => role_ending::end(&work, &mut role).await,
        Err(error) => Err(error),
    };
    let reason = match ended {
        Ok(()) if role.is_over() => return Ok(None),
        Ok(()) => "a creation that was cut off is looked for".to_owned(),
        Err(error @ Error::Storage(_)) => return Err(error),
        Err(error) => error.to_string(),
    };
    if force {
        remove(engine, storage, name, &role).await?;
        return Ok(Some(format!(
            "role {name:?} is removed here, but this is left: {}; delete it at OpenAI ({reason})",
            left(&role).join(", ")
        )));
    }
    Ok(Some(format!(
        "the role hands out no more tokens, but its rule or its account is not deleted at OpenAI yet, which Vault \
         repeats: {reason}"
    )))
}

/// Everything that a deleted role may still have at OpenAI.
fn left(role: &FederatedRole) -> Vec<String> {
    let rule = role.managed.as_ref().and_then(|managed| {
        let Managed { provider_id, rule_name, rule_id, .. } = managed;
        let id = rule_id.as_ref().map(ToString::to_string);
        let rule = id.or_else(|| Some(format!("{} (if OpenAI made it)", rule_name.as_ref()?)))?;
        Some(format!("federation rule {rule} of provider {provider_id}"))
    });
    let account = role.made_account.iter().map(|made| format!("service account {}", made.id));
    let making = role.making.iter().map(|it| {
        let what = if it.project_id.is_some() { "service account" } else { "federation rule" };
        format!("{what} {} (if OpenAI made it)", it.name)
    });
    rule.into_iter().chain(account).chain(making).collect()
}

/// The federation, which must be there.
async fn federation(engine: &Engine, storage: &dyn Storage) -> Result<Arc<Federation>, Error> {
    let federation = engine.federation.stored.latest(storage, record::ONLY).await?;
    federation.filter(|federation| federation.deleted.is_none()).ok_or(Error::NotFederated)
}

impl Home {
    /// Where Vault makes rules; none by hand.
    async fn of(
        engine: &Engine,
        storage: &dyn Storage,
        federation: &Federation,
    ) -> Result<Option<Self>, Error> {
        let Provider::Managed { organization_id, id, .. } = &federation.provider else { return Ok(None) };
        let Some(provider) = id.clone() else {
            let why = federation
                .retry
                .last_error
                .clone()
                .unwrap_or_else(|| "it is under way, or was interrupted".to_owned());
            return Err(Error::field(format!(
                "the provider of config/federation is not registered at OpenAI yet, which Vault repeats: {why}"
            )));
        };
        clients::configured_in_storage(engine, storage).await?;
        let client = clients::client_of(engine, storage, organization_id).await?;
        let client = client.for_work(Urgency::Check, MAX_WAIT);
        provider::note_made(engine, federation);
        Ok(Some(Self { organization: organization_id.clone(), provider, client }))
    }
}

/// Checks project and account at OpenAI.
async fn check_place(
    engine: &Engine,
    storage: &dyn Storage,
    home: &Home,
    settings: &Settings,
    project: &ProjectId,
    account: Option<&ServiceAccountId>,
) -> Result<(), Error> {
    // A named project was checked when it was written.
    if settings.project.is_empty() {
        named_projects::check(&home.client, project).await?;
    }
    let Some(account) = account else { return Ok(()) };
    let config = clients::configured(engine, storage).await?.config;
    let found = key_records::check_account(&config, &home.client, ACCOUNT, project, account).await?;
    if engine.tag.owns(&found.name) {
        return Err(Error::field(format!(
            "service_account_id must not name service account {}: this mount made it for something else, and deletes \
             it with that",
            found.name
        )));
    }
    Ok(())
}

/// Refuses a rule above OpenAI's limit. Answers a warning when the limit is near.
async fn check_room(home: &Home) -> Result<Option<String>, Error> {
    let rules = home.client.federation_rules(&home.provider).await;
    let what = "listing the provider's federation rules";
    let rules = rules.map_err(|error| provider::failed(&home.provider, what, error))?;
    let count = rules.len();
    if count >= MOST_RULES {
        return Err(Error::field(format!(
            "provider {} has {count} federation rules, and OpenAI allows {MOST_RULES}: delete a role that is not used, or \
             use another mount for more",
            home.provider
        )));
    }
    Ok((count + 1 >= MANY_RULES).then(|| {
        format!(
            "provider {} has {} of {MOST_RULES} federation rules that OpenAI allows",
            home.provider,
            count + 1
        )
    }))
}

/// Claims an existing account, which nothing else of the mount may use. While the guard is held, no other role can take
/// the account. Afterwards the stored record of this role refuses that. The caller stores the record next, so that a
/// refused write leaves no claim.
async fn claim(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    account: &ServiceAccountId,
) -> Result<LockGuard, Error> {
    let alone = claims::lock(&engine.locks, account).await;
    refuse_used(engine, storage, name, account).await?;
    claims::claim_locked(engine, storage, account, &owner(name)).await?;
    Ok(alone)
}

/// Refuses an account with another user. An earlier role of this name may have used the account.
async fn refuse_used(
    engine: &Engine,
    storage: &dyn Storage,
    name: &str,
    account: &ServiceAccountId,
) -> Result<(), Error> {
    match DEPENDENTS.user_of(Mount { engine, storage }, account).await? {
        Some(user) if user != owner(name).described() => {
            Err(Error::AccountInUse { account: account.clone(), owner: user })
        }
        _ => Ok(()),
    }
}

/// Refuses another account than the role's own. The sent value of an earlier write stays valid, so that a repeated write
/// changes nothing.
fn refuse_other_account(write: &RoleWrite, old: &FederatedRole) -> Result<(), Error> {
    let sent = write.account.id();
    let is_same = sent == old.given_account_id.as_ref() || sent.is_some() && sent == old.account();
    if write.account == SentAccount::Not || is_same {
        return Ok(());
    }
    let sent = sent.map_or("", ServiceAccountId::as_str);
    let present = old.account().map_or("", ServiceAccountId::as_str);
    Err(Error::field(format!(
        "service_account_id cannot be changed from {present:?} to {sent:?}, because OpenAI binds a federation rule to one \
         account: delete the role and write it anew"
    )))
}

async fn refuse_other_project(
    engine: &Engine,
    storage: &dyn Storage,
    settings: &Settings,
    old: &FederatedRole,
) -> Result<(), Error> {
    if settings.named_project() == old.settings.named_project() {
        return Ok(());
    }
    let project = project_fields::agreed_project(engine, storage, &settings.named_project()).await?;
    if project == old.account_project_id {
        return Ok(());
    }
    Err(Error::field(format!(
        "the project of a role with access tokens cannot be changed: its account is in {}; delete the role and write it \
         anew",
        old.account_project_id
    )))
}

/// The federated roles with this name of a project.
pub(in crate::engine) async fn of_project(
    engine: &Engine,
    storage: &dyn Storage,
    project: &str,
) -> Result<Vec<String>, Error> {
    let roles = engine.federation.roles.all(storage).await?.into_iter();
    let named = roles.filter(|(_, role)| role.settings.project == project);
    Ok(named.map(|(name, _)| format!("federated role {name}")).collect())
}
