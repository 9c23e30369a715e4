//! Brings OpenAI into line with a federated role's record: its account, the account's role in the project, its rule.
//!
//! *Guarantees:* the name of an account is in the stored record before OpenAI is asked for the account. An account whose
//! creation has an unknown outcome is never asked for again: another one gets another name, and the worker looks for the
//! first and deletes it. A rule keeps its one name, which OpenAI allows once in a provider. So an interruption at any
//! point, repeated, leaves one rule and one account.
//!
//! *Assumptions:* the caller holds the role's lock, and after a crash the worker comes to the role: a marker of the role is
//! due, or the worker reconciles all owners.

use std::time::Duration;

use super::role::{FederatedRole, MadeAccount, Managed, owner};
use super::role_work::Work;
use crate::engine::Error;
use crate::engine::accounts::claims;
use crate::engine::accounts::lookup;
use crate::engine::accounts::lookup::UniqueName;
use crate::engine::failpoint::failpoint;
use crate::openai::{
    self, FederationRule, FederationRuleChange, NewFederationRule, Permissions, Role, ServiceAccountId,
    Urgency,
};

/// Maximum number of rules of a provider at OpenAI.
pub(in crate::engine) const MOST_RULES: usize = 50;
/// Maximum time of a look-up right after a lost answer.
const LOOK_UP: Duration = Duration::from_secs(10);

/// Does the missing steps at OpenAI. Each step is stored, except the account's role in the project: the next write stores
/// that. `is_new` is true if OpenAI was never asked for the rule.
pub(super) async fn register(work: &Work<'_>, role: &mut FederatedRole, is_new: bool) -> Result<(), Error> {
    if role.account().is_none() {
        make_account(work, role).await?;
    }
    make_member(work, role).await?;
    let Some(account) = role.account().cloned() else { return Ok(()) };
    let Some(managed) = role.managed.as_ref().filter(|it| !it.is_applied) else { return Ok(()) };
    match managed.rule_id {
        Some(_) => change_rule(work, role).await,
        None => make_rule(work, role, &account, is_new).await,
    }
}

/// True if OpenAI refused for good: the same request fails again, and nothing was made.
pub(super) fn is_refusal(error: &Error) -> bool {
    match error {
        Error::OpenAi { error, .. } | Error::AccountCreation(error) => {
            !error.is_transient() && !error.is_unknown_outcome() && error.status().is_some()
        }
        Error::Field(_) => true,
        _ => false,
    }
}

/// Makes an account without a key, claims it, and puts it on record.
async fn make_account(work: &Work<'_>, role: &mut FederatedRole) -> Result<(), Error> {
    let Some(managed) = &role.managed else { return Ok(()) };
    let (organization, project) = (&managed.organization_id, Some(&role.account_project_id));
    let name = role.making.begin(work.new_name(), organization, project, None, work.engine.now())?.name;
    work.engine.accounts.first_seen.begin(&name);
    work.put(role).await?;
    failpoint!("federated.account_announced");
    let id = match ask_for_account(work, role, &name).await {
        Ok(id) => id,
        Err(error) => {
            // OpenAI sometimes makes what it refuses, and lists it late.
            if matches!(&error, Error::AccountCreation(error) if !error.may_have_created()) {
                role.making.end(&name);
                work.engine.accounts.first_seen.forget(&name);
            }
            return Err(error);
        }
    };
    failpoint!("federated.account_made");
    claims::claim(work.engine, work.storage, &id, &owner(work.name)).await?;
    failpoint!("federated.account_claimed");
    role.making.end(&name);
    role.made_account =
        Some(MadeAccount { id, name: name.clone(), is_member: false, made: Some(work.engine.now()) });
    name_rule(work, role);
    work.put(role).await?;
    work.engine.accounts.first_seen.forget(&name);
    Ok(())
}

/// Asks OpenAI for an account of this name. After a lost answer the account is looked for at once.
async fn ask_for_account(
    work: &Work<'_>,
    role: &FederatedRole,
    name: &str,
) -> Result<ServiceAccountId, Error> {
    let project = &role.account_project_id;
    let error = match work.making().create_account_only(project, name).await {
        Ok(account) => return Ok(account.id),
        Err(error) => error,
    };
    if error.may_have_created() {
        let client = work.ending().for_work(Urgency::Revocation, LOOK_UP);
        let unique_name = UniqueName { project, account: None, name };
        match lookup::find_now(&client, &unique_name).await {
            Ok(Some(found)) => {
                client.recent_ids().insert(found.account.as_str(), Duration::ZERO);
                return Ok(found.account);
            }
            Ok(None) => {}
            // OpenAI sometimes makes what it refuses, so without the list the refusal proves nothing.
            Err(_) => return Err(Error::LeftBehind(Box::new(Error::AccountCreation(error)))),
        }
    }
    Err(Error::AccountCreation(error))
}

/// Gives the account the role of a member in the project. OpenAI creates the account without a role, and its tokens open
/// nothing.
async fn make_member(work: &Work<'_>, role: &mut FederatedRole) -> Result<(), Error> {
    let project = &role.account_project_id;
    let Some(made) = role.made_account.as_mut().filter(|made| !made.is_member) else { return Ok(()) };
    let changed = work.making().rename_service_account(project, &made.id, &made.name, Role::Member).await;
    changed.map_err(Error::call("giving the role's service account its role in the project"))?;
    failpoint!("federated.member");
    made.is_member = true;
    Ok(())
}

/// Gives the rule its name, once. The caller stores the record before OpenAI is asked.
pub(super) fn name_rule(work: &Work<'_>, role: &mut FederatedRole) {
    if let Some(managed) = role.managed.as_mut().filter(|it| it.rule_name.is_none()) {
        let name = work.new_name();
        work.engine.accounts.first_seen.begin(&name);
        managed.rule_name = Some(name);
    }
}

/// Finds the rule by its name, or makes it. The stored record has the name since it has the account.
async fn make_rule(
    work: &Work<'_>,
    role: &mut FederatedRole,
    account: &ServiceAccountId,
    is_new: bool,
) -> Result<(), Error> {
    let Some(Managed { provider_id, rule_name: Some(name), .. }) = role.managed.clone() else {
        return Ok(());
    };
    let client = work.making();
    let found = if is_new { None } else { find_rule(&client, &provider_id, &name).await? };
    if let Some(rule) = found {
        return adopt(work, role, &rule).await;
    }
    let new = NewFederationRule {
        name: name.clone(),
        project_id: role.account_project_id.clone(),
        service_account_id: account.clone(),
        subject: role.subject.clone(),
        scopes: role.settings.scopes.clone(),
        enabled: role.settings.enabled,
    };
    failpoint!("federated.rule_announced");
    let error = match client.create_federation_rule(&provider_id, &new).await {
        Ok(rule) => {
            failpoint!("federated.rule_made");
            note_rule(work, role, &rule);
            work.engine.accounts.first_seen.forget(&name);
            return work.put(role).await;
        }
        Err(error) => error,
    };
    if error.may_have_created()
        && let Some(rule) = find_rule(&client, &provider_id, &name).await?
    {
        return adopt(work, role, &rule).await;
    }
    let may_exist = error.may_have_created();
    let error = Error::call("making the role's federation rule")(error);
    // The refusal of a repeated attempt says nothing about the first one, whose rule OpenAI may list late.
    if is_new && is_refusal(&error) {
        give_name_up(work, role, name, may_exist);
    }
    Err(error)
}

/// Takes the name of a refused rule from the record. The worker looks for a rule of that name if OpenAI may have made one.
/// With too many unknown outcomes, the record keeps the name, and stays until the name has settled.
fn give_name_up(work: &Work<'_>, role: &mut FederatedRole, name: String, may_exist: bool) {
    let Some(managed) = role.managed.as_mut() else { return };
    let organization = &managed.organization_id;
    if may_exist && role.making.begin(name, organization, None, None, work.engine.now()).is_err() {
        return;
    }
    managed.rule_name = None;
}

/// Takes the rule of an earlier attempt over. Its settings may be older than the record's.
async fn adopt(work: &Work<'_>, role: &mut FederatedRole, rule: &FederationRule) -> Result<(), Error> {
    note_rule(work, role, rule);
    if let Some(managed) = &mut role.managed {
        managed.is_applied = false;
    }
    change_rule(work, role).await
}

fn note_rule(work: &Work<'_>, role: &mut FederatedRole, rule: &FederationRule) {
    if let Some(managed) = &mut role.managed {
        managed.rule_id = Some(rule.id.clone());
        managed.is_applied = true;
        managed.changed = Some(work.engine.now());
    }
}

/// Applies the settings to the rule.
async fn change_rule(work: &Work<'_>, role: &mut FederatedRole) -> Result<(), Error> {
    let Some(Managed { provider_id, rule_id: Some(id), .. }) = role.managed.clone() else { return Ok(()) };
    let (enabled, permissions) = (role.settings.enabled, Permissions::of_scopes(&role.settings.scopes));
    let (client, change) = (work.making(), FederationRuleChange { enabled, permissions });
    match client.update_federation_rule(&provider_id, &id, &change).await {
        Ok(rule) => {
            failpoint!("federated.rule_changed");
            note_rule(work, role, &rule);
            work.put(role).await
        }
        Err(error) if error.is_gone() => Err(Error::field(format!(
            "federation rule {id} of the role is gone at OpenAI ({error}): delete the role and write it anew"
        ))),
        Err(error) => {
            let error = Error::call("changing the role's federation rule")(error);
            if !enabled && is_refusal(&error) {
                // Scopes that OpenAI refuses delay no stop. If this fails too, the worker repeats both.
                let _ = client.disable_federation_rule(&provider_id, &id).await;
            }
            Err(error)
        }
    }
}

/// The rule of this name.
pub(super) async fn find_rule(
    client: &openai::Client,
    provider: &openai::IdentityProviderId,
    name: &str,
) -> Result<Option<FederationRule>, Error> {
    let rules = client.federation_rules(provider).await;
    let rules = rules.map_err(Error::call("listing the provider's federation rules"))?;
    Ok(rules.into_iter().find(|rule| rule.name.as_deref() == Some(name)))
}
