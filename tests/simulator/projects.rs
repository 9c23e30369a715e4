//! Projects: create, read, change and archive. Rate limits are read-only.

use serde_json::{Value, json};

use super::call::Call;
use super::id;
use super::input::Fields;
use super::lag::Operation;
use super::page::page_by_id;
use super::refusal::Refusal;
use super::world::{Project, World};

/// Valid data residencies.
const RESIDENCIES: &[&str] = &[
    "GLOBAL",
    "US_STORAGE_PROCESSING",
    "EU_STORAGE_PROCESSING",
    "JP_STORAGE",
    "JP_STORAGE_PROCESSING",
    "KR_STORAGE",
    "CA_STORAGE",
    "SG_STORAGE",
    "IN_STORAGE",
    "IN_STORAGE_PROCESSING",
    "AU_STORAGE",
    "AU_STORAGE_PROCESSING",
    "GB_STORAGE",
    "AE_STORAGE",
    "AE_STORAGE_PROCESSING",
];

/// `GET /organization/projects`
pub fn list(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let archived_too = call.one_of("include_archived", &["true", "false"])? == Some("true");
    let limit = call.limit(20, 100)?;
    let shown = world.projects.iter().filter(|project| archived_too || project.archived_at.is_none());
    page_by_id(shown.map(shape).collect(), call, limit)
}

/// `POST /organization/projects`
pub fn create(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let mut fields = Fields::of(call)?.nullable(&["residency", "geography", "external_key_id"]);
    let name = fields.required_text("name")?;
    let (residency, geography) = (fields.choice("residency", RESIDENCIES)?, fields.text("geography")?);
    if residency.is_some() && geography.is_some() {
        let message = "'geography' cannot be used together with 'residency'.";
        return Err(Refusal::invalid("geography", message.to_owned()));
    }
    let external_key_id = fields.text("external_key_id")?;
    fields.end()?;
    let made = Some(world.clock.now());
    let project = world.add_project(format!("proj_{}", id::random(24)), Some(name));
    (project.residency, project.external_key_id, project.made) = (residency, external_key_id, made);
    Ok(shape(project))
}

/// `GET /organization/projects/{project_id}`
pub fn read(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let project = world.project(call.id("project_id"))?;
    if !world.is_visible(&project.id, project.made, Operation::Get) {
        return Err(Refusal::not_found("Project", &project.id));
    }
    Ok(shape(project))
}

/// `POST /organization/projects/{project_id}`
pub fn update(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    world.active_project(call.id("project_id"))?;
    let mut fields = Fields::of(call)?.nullable(&["name", "geography", "external_key_id"]);
    let (name, external_key_id) = (fields.text("name")?, fields.text("external_key_id")?);
    // Deprecated, and without effect.
    fields.text("geography")?;
    fields.end()?;
    change(world, call.id("project_id"), |project| {
        project.name = name.or(project.name.take());
        project.external_key_id = external_key_id.or(project.external_key_id.take());
    })
}

/// `POST /organization/projects/{project_id}/archive` deletes the service accounts of the project.
pub fn archive(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    let id = call.id("project_id");
    world.active_project(id)?;
    archive_by_id(world, id);
    change(world, id, |_| ())
}

/// Archives a project by id. An unknown id is no error.
pub fn archive_by_id(world: &mut World, id: &str) {
    let its = world.accounts.iter().filter(|(_, account)| account.project == id);
    for account in its.map(|(serial, _)| *serial).collect::<Vec<u64>>() {
        world.remove_account(account);
    }
    let now = world.now();
    for project in world.projects.iter_mut().filter(|project| project.id == id) {
        project.archived_at = Some(now);
    }
}

/// `GET /organization/projects/{project_id}/rate_limits`
pub fn rate_limits(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    world.active_project(call.id("project_id"))?;
    let limit = |model: &str, requests: u64, tokens: u64| {
        json!({
            "object": "project.rate_limit", "id": format!("rl_{model}"), "model": model,
            "max_requests_per_1_minute": requests, "max_tokens_per_1_minute": tokens,
        })
    };
    let all = vec![limit("gpt-5", 10_000, 4_000_000), limit("gpt-5-mini", 30_000, 10_000_000)];
    page_by_id(all, call, call.limit(100, 100)?)
}

fn change(world: &mut World, id: &str, change: impl FnOnce(&mut Project)) -> Result<Value, Refusal> {
    let found = world.projects.iter_mut().find(|project| project.id == id);
    let project = found.ok_or_else(|| Refusal::not_found("Project", id))?;
    change(project);
    Ok(shape(project))
}

fn shape(project: &Project) -> Value {
    let mut shape = json!({
        "object": "organization.project",
        "id": project.id,
        "name": project.name,
        "created_at": project.created_at,
        "archived_at": project.archived_at,
        "status": if project.archived_at.is_some() { "archived" } else { "active" },
        "external_key_id": project.external_key_id,
    });
    if let Some(residency) = &project.residency {
        shape["residency"] = json!(residency);
    }
    shape
}
