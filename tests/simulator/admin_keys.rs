//! Keys for the Admin API itself.

use serde_json::{Value, json};

use super::call::Call;
use super::id::{self, redacted};
use super::input::Fields;
use super::page::{cursor, page};
use super::refusal::Refusal;
use super::world::{AdminKey, KEY, World};

/// `GET /organization/admin_api_keys`
pub fn list(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let newest_first = call.one_of("order", &["asc", "desc"])? == Some("desc");
    let (limit, after) = (call.limit(20, 100)?, cursor(call, KEY)?);
    if newest_first {
        let older = world.admin_keys.range(..after.unwrap_or(u64::MAX)).rev();
        return Ok(page(older.map(|(_, key)| shape(world, key)), limit));
    }
    let newer = world.admin_keys.range(after.unwrap_or(0) + 1..);
    Ok(page(newer.map(|(_, key)| shape(world, key)), limit))
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
    let serial = find(world, call.id("key_id"))?;
    Ok(shape(world, &world.admin_keys[&serial]))
}

/// `DELETE /organization/admin_api_keys/{key_id}`: also the very key that asks.
pub fn delete(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let serial = find(world, call.id("key_id"))?;
    world.admin_keys.remove(&serial);
    world.deleted.admin_keys += 1;
    Ok(json!({"object": "organization.admin_api_key.deleted", "id": call.id("key_id"), "deleted": true}))
}

/// The serial number of this admin key.
pub fn find(world: &World, id: &str) -> Result<u64, Refusal> {
    id::serial(KEY, id)
        .filter(|serial| world.admin_keys.get(serial).is_some_and(|key| key.id == id))
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
