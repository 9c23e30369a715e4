//! Service accounts of a project, and the first key of a new account.

use serde_json::{Value, json};

use super::call::Call;
use super::input::Fields;
use super::keys;
use super::lag::Operation;
use super::page::{cursor, merged, page};
use super::refusal::Refusal;
use super::world::{ACCOUNT, Account, World};

/// Name of a new account's first key.
pub const FIRST_KEY: &str = "Secret Key";

/// `GET .../service_accounts`
pub fn list(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let project = world.active_project(call.id("project_id"))?.id.as_str();
    let (limit, after) = (call.limit(20, 100)?, cursor(call, ACCOUNT)?.unwrap_or(0));
    let is_listed =
        |one: &Account| one.project == project && world.is_visible(&one.id, one.made, Operation::List);
    let there = world.accounts.range(after + 1..).filter(|(_, account)| is_listed(account));
    let recently_deleted = world.recently_deleted_accounts.visible(world.clock.now());
    let recently_deleted =
        recently_deleted.filter(|(serial, account)| *serial > after && account.project == project);
    let theirs = merged(there.map(|(serial, account)| (*serial, account)), recently_deleted, limit);
    Ok(page(theirs.into_iter().map(shape), limit))
}

/// `POST .../service_accounts`
pub fn create(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let project = world.active_project(call.id("project_id"))?;
    if project.is_default {
        let message = "Service accounts cannot be added to the default project.";
        return Err(Refusal::forbidden_by_state(None, "invalid_project", message.to_owned()));
    }
    let project = project.id.clone();
    let mut fields = Fields::of(call)?.nullable(&["create_service_account_only", "expires_in_seconds"]);
    let name = fields.required_text("name")?;
    let account_only = fields.flag("create_service_account_only")?.unwrap_or(false);
    let lifetime = fields.lifetime()?;
    fields.end()?;
    check_name(world, &name)?;
    if account_only {
        refuse_lifetime(lifetime)?;
        let serial = world.add_account(&project, name, "none");
        return Ok(created(world, serial, Value::Null));
    }
    keys::check_lifetime(&world.policy, lifetime)?;
    let serial = world.add_account(&project, name, "member");
    let key = world.add_key(serial, FIRST_KEY.to_owned(), Vec::new(), lifetime).map(keys::unredacted);
    Ok(created(world, serial, key.unwrap_or_default()))
}

/// `GET .../service_accounts/{service_account_id}`
pub fn read(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = find(world, call)?;
    Ok(shape(&world.accounts[&serial]))
}

/// `POST .../service_accounts/{service_account_id}`
pub fn update(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = find(world, call)?;
    let mut fields = Fields::of(call)?;
    let (name, role) = (fields.text("name")?, fields.choice("role", &["member", "owner"])?);
    fields.end()?;
    if let Some(name) = &name {
        check_name(world, name)?;
    }
    let not_found = || Refusal::not_found("Service account", call.id("service_account_id"));
    let account = world.accounts.get_mut(&serial).ok_or_else(not_found)?;
    account.name = name.unwrap_or_else(|| account.name.clone());
    account.role = role.unwrap_or_else(|| account.role.clone());
    Ok(shape(account))
}

/// `DELETE .../service_accounts/{service_account_id}` also deletes the account's keys.
pub fn delete(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = find(world, call)?;
    world.remove_account(serial);
    let id = call.id("service_account_id");
    Ok(json!({"object": "organization.project.service_account.deleted", "id": id, "deleted": true}))
}

/// The account in the path. Its project must be active.
pub fn find(world: &World, call: &Call) -> Result<u64, Refusal> {
    let project = world.active_project(call.id("project_id"))?;
    world.account(&project.id, call.id("service_account_id"), Operation::of_method(&call.method))
}

fn created(world: &World, serial: u64, key: Value) -> Value {
    let mut shape = shape(&world.accounts[&serial]);
    shape["api_key"] = key;
    shape
}

fn refuse_lifetime(lifetime: Option<u64>) -> Result<(), Refusal> {
    let message = "'expires_in_seconds' cannot be used when 'create_service_account_only' is true.";
    lifetime.map_or(Ok(()), |_| Err(Refusal::invalid("expires_in_seconds", message.to_owned())))
}

fn check_name(world: &World, name: &str) -> Result<(), Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if world.policy.plain_names && !((3..=64).contains(&name.len()) && name.bytes().all(plain)) {
        let message = "Invalid 'name': expected 3 to 64 letters, digits, '_' or '-'.";
        return Err(Refusal::invalid("name", message.to_owned()));
    }
    Ok(())
}

fn shape(account: &Account) -> Value {
    json!({
        "object": "organization.project.service_account",
        "id": account.id,
        "name": account.name,
        "role": account.role,
        "created_at": account.created_at,
    })
}
