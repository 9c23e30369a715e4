//! `GET /organization/costs`: spending in buckets of one UTC day.

use serde_json::{Value, json};

use super::call::Call;
use super::refusal::Refusal;
use super::world::{Spending, World};

const DAY: u64 = 86_400;

/// Spending from `start_time` on, grouped as requested.
pub fn read(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    call.one_of("bucket_width", &["1d"])?;
    let start = instant(call, "start_time")?.ok_or_else(|| Refusal::missing("start_time"))?;
    let end = instant(call, "end_time")?.unwrap_or_else(|| world.now());
    if end <= start {
        return Err(Refusal::invalid("end_time", "'end_time' must be after 'start_time'.".to_owned()));
    }
    let limit = call.limit(7, 180)?;
    let by_project = grouped_by_project(call)?;
    let first = next_page(call)?.unwrap_or(start - start % DAY);
    let mut days = (first..end).step_by(DAY as usize);
    let data: Vec<Value> =
        days.by_ref().take(limit).map(|day| bucket(world, call, day, by_project)).collect();
    let next_page = days.next().map(|day| format!("page_{day}"));
    Ok(json!({"object": "page", "data": data, "has_more": next_page.is_some(), "next_page": next_page}))
}

fn instant(call: &Call, name: &str) -> Result<Option<u64>, Refusal> {
    let past = |sent: i64| u64::try_from(sent).map_err(|_| Refusal::below(name, 0, sent));
    call.integer(name)?.map(past).transpose()
}

fn next_page(call: &Call) -> Result<Option<u64>, Refusal> {
    let unknown = |sent: &str| Refusal::invalid("page", format!("Invalid 'page': '{sent}'."));
    let read =
        |sent: &str| sent.strip_prefix("page_").and_then(|day| day.parse().ok()).ok_or_else(|| unknown(sent));
    call.parameter("page").map(read).transpose()
}

fn grouped_by_project(call: &Call) -> Result<bool, Refusal> {
    let allowed = ["project_id", "line_item", "api_key_id"];
    let groups = call.parameters("group_by");
    match groups.iter().find(|sent| !allowed.contains(*sent)) {
        Some(unknown) => Err(Refusal::not_one_of("group_by", &allowed, unknown)),
        None => Ok(groups.contains(&"project_id")),
    }
}

fn bucket(world: &World, call: &Call, day: u64, by_project: bool) -> Value {
    let projects = call.parameters("project_ids");
    let asked = |project: &str| projects.is_empty() || projects.contains(&project);
    let spent: Vec<&Spending> = world
        .spending
        .iter()
        .filter(|one| (day..day + DAY).contains(&one.at) && asked(&one.project))
        .collect();
    json!({"object": "bucket", "start_time": day, "end_time": day + DAY, "results": results(&spent, by_project)})
}

fn results(spent: &[&Spending], by_project: bool) -> Vec<Value> {
    if !by_project {
        return vec![result(spent.iter().map(|one| one.amount).sum(), None)];
    }
    let mut projects: Vec<&str> = spent.iter().map(|one| one.project.as_str()).collect();
    projects.sort_unstable();
    projects.dedup();
    let total = |project: &str| spent.iter().filter(|one| one.project == project).map(|one| one.amount).sum();
    projects.into_iter().map(|project| result(total(project), Some(project))).collect()
}

fn result(amount: f64, project: Option<&str>) -> Value {
    json!({
        "object": "organization.costs.result",
        "amount": {"value": amount, "currency": "usd"},
        "line_item": null,
        "project_id": project,
        "api_key_id": null,
        "quantity": null,
        "quantity_unit": null,
    })
}
