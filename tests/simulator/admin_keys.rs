//! Admin keys, which authenticate calls of the Admin API.

use serde_json::{Value, json};

use super::call::Call;
use super::id::{self, redacted};
use super::input::Fields;
use super::lag::Operation;
use super::page::{cursor, merged, page};
use super::refusal::Refusal;
use super::world::{AdminKey, KEY, World};

/// `GET /organization/admin_api_keys`
pub fn list(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let newest_first = call.one_of("order", &["asc", "desc"])? == Some("desc");
    let (limit, after) = (call.limit(20, 100)?, cursor(call, KEY)?);
    let is_asked_for = |serial: u64| match after {
        Some(after) if newest_first => serial < after,
        Some(after) => serial > after,
        None => true,
    };
    let there = world.admin_keys.iter().map(|(serial, key)| (*serial, key));
    let there = there.filter(|(_, key)| world.is_visible(&key.id, key.made, Operation::List));
    let there = there.filter(|(serial, _)| is_asked_for(*serial));
    let recently_deleted = world.recently_deleted_admin_keys.visible(world.clock.now());
    let mut listed =
        merged(there, recently_deleted.filter(|(serial, _)| is_asked_for(*serial)), usize::MAX - 1);
    if newest_first {
        listed.reverse();
    }
    Ok(page(listed.into_iter().map(|key| shape(world, key)), limit))
}

/// `POST /organization/admin_api_keys`
pub fn create(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let mut fields = Fields::of(call)?;
    let (name, lifetime) = (fields.required_text("name")?, fields.lifetime()?);
    fields.end()?;
    let key = world.add_admin_key(name, id::key_value("sk-admin"), lifetime).clone();
    let mut shape = shape(world, &key);
    shape["value"] = json!(key.value);
    Ok(shape)
}

/// `GET /organization/admin_api_keys/{key_id}`
pub fn read(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = find(world, call.id("key_id"), Operation::Get)?;
    Ok(shape(world, &world.admin_keys[&serial]))
}

/// `DELETE /organization/admin_api_keys/{key_id}` also deletes the calling key.
pub fn delete(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = find(world, call.id("key_id"), Operation::Delete)?;
    world.remove_admin_key(serial);
    Ok(json!({"object": "organization.admin_api_key.deleted", "id": call.id("key_id"), "deleted": true}))
}

/// Serial number of the admin key.
pub fn find(world: &World, id: &str, operation: Operation) -> Result<u64, Refusal> {
    let is_it = |key: &AdminKey| key.id == id && world.is_visible(id, key.made, operation);
    id::serial(KEY, id)
        .filter(|serial| world.admin_keys.get(serial).is_some_and(is_it))
        .ok_or_else(|| Refusal::not_found("Admin API key", id))
}

fn shape(world: &World, key: &AdminKey) -> Value {
    json!({
        "object": "organization.admin_api_key",
        "id": key.id,
        "name": key.name,
        "redacted_value": redacted(&key.value),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "owner": owner(world, key),
    })
}

fn owner(world: &World, key: &AdminKey) -> Value {
    match &key.owner {
        Some(account) => {
            let name = world.accounts.values().find(|one| one.id == *account).map(|one| one.name.clone());
            json!({"type": "service_account", "object": "organization.service_account", "id": account,
                   "name": name.unwrap_or_default(), "created_at": key.created_at, "role": "owner"})
        }
        None => json!({"type": "user", "object": "organization.user", "id": "user_simulated",
                       "name": "Operator", "created_at": key.created_at, "role": "owner"}),
    }
}
