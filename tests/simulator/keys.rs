//! Keys of service accounts. Creation is a call of the account; all other calls belong to the project.

use serde_json::{Value, json};

use super::accounts;
use super::call::Call;
use super::id::redacted;
use super::input::Fields;
use super::lag::Operation;
use super::page::{cursor, merged, page};
use super::refusal::Refusal;
use super::world::{KEY, Key, Policy, World, live};

/// `POST .../service_accounts/{service_account_id}/api_keys`
pub fn create(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let account = accounts::find(world, call)?;
    let mut fields = Fields::of_optional(call)?.nullable(&["expires_in_seconds"]);
    let name = fields.text("name")?.unwrap_or_else(|| accounts::FIRST_KEY.to_owned());
    let scopes = fields.texts("scopes")?.unwrap_or_default();
    let lifetime = fields.lifetime()?;
    fields.end()?;
    check_lifetime(&world.policy, lifetime)?;
    let not_found = || Refusal::not_found("Service account", call.id("service_account_id"));
    world.add_key(account, name, scopes, lifetime).map(unredacted).ok_or_else(not_found)
}

/// `GET .../api_keys`. Without `owner_project_access`, the list omits keys of owners without access.
pub fn list(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let project = world.project(call.id("project_id"))?.id.as_str();
    let access = call.one_of("owner_project_access", &["active", "inactive", "any"])?.unwrap_or("active");
    let (limit, after) = (call.limit(20, 100)?, cursor(call, KEY)?.unwrap_or(0));
    let shown =
        |key: &&Key| key.project == project && (access == "any" || owner_access(world, key) == access);
    let there = world.keys.range(after + 1..).map(|(serial, key)| (*serial, key));
    let there = there.filter(|(_, key)| shown(key) && world.is_visible(&key.id, key.made, Operation::List));
    let recently_deleted = world.recently_deleted_keys.visible(world.clock.now());
    let recently_deleted = recently_deleted.filter(|(serial, key)| *serial > after && key.project == project);
    let theirs = merged(there, recently_deleted, limit);
    Ok(page(theirs.into_iter().map(|key| shape(world, key)), limit))
}

/// `GET .../api_keys/{api_key_id}`
pub fn read(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = find(world, call)?;
    Ok(shape(world, &world.keys[&serial]))
}

/// `POST .../api_keys/{api_key_id}` changes scopes, expiry, or both. An expired key cannot be changed.
pub fn update(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = find(world, call)?;
    let mut fields = Fields::of(call)?;
    let (scopes, lifetime) = (fields.texts("scopes")?, fields.lifetime()?);
    fields.end()?;
    if scopes.is_none() && lifetime.is_none() {
        let message = "At least one of 'scopes' and 'expires_in_seconds' must be provided.";
        return Err(Refusal::forbidden_by_state(None, "missing_required_parameter", message.to_owned()));
    }
    if lifetime.is_some() {
        check_lifetime(&world.policy, lifetime)?;
    }
    change(world, serial, scopes, lifetime)?;
    Ok(shape(world, &world.keys[&serial]))
}

/// `DELETE .../api_keys/{api_key_id}`. The account and its other keys stay.
pub fn delete(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = find(world, call)?;
    world.remove_key(serial);
    let id = call.id("api_key_id");
    Ok(json!({"object": "organization.project.api_key.deleted", "id": id, "deleted": true}))
}

/// Refuses a lifetime that the organization's policy forbids.
pub fn check_lifetime(policy: &Policy, lifetime: Option<u64>) -> Result<(), Refusal> {
    let refuse = |code, message| Err(Refusal::forbidden_by_state(Some("expires_in_seconds"), code, message));
    match (lifetime, policy.max_lifetime) {
        (None, maximum) if policy.expiry_required || maximum.is_some() => refuse(
            "api_key_expiration_required",
            "Your organization's policy requires API keys to expire: provide 'expires_in_seconds'."
                .to_owned(),
        ),
        (Some(sent), Some(maximum)) if sent > maximum => refuse(
            "api_key_expiration_too_long",
            format!(
                "Your organization's policy allows API keys to live {maximum} seconds at most, but 'expires_in_seconds' is {sent}."
            ),
        ),
        _ => Ok(()),
    }
}

/// A new key with its value, which only this response contains.
pub fn unredacted(key: &Key) -> Value {
    json!({
        "object": "organization.project.service_account.api_key",
        "id": key.id,
        "name": key.name,
        "value": key.value,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
    })
}

fn find(world: &World, call: &Call) -> Result<u64, Refusal> {
    let project = world.project(call.id("project_id"))?;
    world.key(&project.id, call.id("api_key_id"), Operation::of_method(&call.method))
}

fn change(
    world: &mut World,
    serial: u64,
    scopes: Option<Vec<String>>,
    lifetime: Option<u64>,
) -> Result<(), Refusal> {
    let now = world.now();
    let Some(key) = world.keys.get_mut(&serial) else { return Ok(()) };
    if !live(key.expires_at, now) {
        let message = format!("API key '{}' has expired and cannot be updated.", key.id);
        return Err(Refusal::forbidden_by_state(None, "api_key_expired", message));
    }
    key.scopes = scopes.unwrap_or_else(|| key.scopes.clone());
    key.expires_at = lifetime.map_or(key.expires_at, |seconds| Some(now + seconds));
    Ok(())
}

/// An account without a role has no access to its project.
fn owner_access(world: &World, key: &Key) -> &'static str {
    let without = world.accounts.get(&key.account).is_none_or(|owner| owner.role == "none");
    if without { "inactive" } else { "active" }
}

fn shape(world: &World, key: &Key) -> Value {
    let recently_deleted =
        || world.recently_deleted_accounts.visible(world.clock.now()).find(|(it, _)| *it == key.account);
    let owner = world.accounts.get(&key.account).or_else(|| recently_deleted().map(|(_, owner)| owner));
    let owner = owner.map(|owner| {
        json!({"id": owner.id, "name": owner.name, "created_at": owner.created_at, "role": owner.role})
    });
    json!({
        "object": "organization.project.api_key",
        "id": key.id,
        "name": key.name,
        "redacted_value": redacted(&key.value),
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "expires_at": key.expires_at,
        "owner_project_access": owner_access(world, key),
        "owner": {"type": "service_account", "service_account": owner},
    })
}
