//! `GET /organization/costs`: spending in buckets of one UTC day.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::call::Call;
use super::refusal::Refusal;
use super::world::{Spending, World};

const DAY: u64 = 86_400;

/// What one line of costs is about.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    project: Option<String>,
    user: Option<String>,
    api_key: Option<String>,
    source: Option<&'static str>,
}

/// Spending from `start_time` on, grouped as requested.
pub fn read(world: &mut World, call: &Call) -> Result<Value, Refusal> {
    call.one_of("bucket_width", &["1d"])?;
    let start = instant(call, "start_time")?.ok_or_else(|| Refusal::missing("start_time"))?;
    // The second that runs counts: a day may be asked for from its first one on.
    let end = instant(call, "end_time")?.unwrap_or_else(|| world.now() + 1);
    if end <= start {
        return Err(Refusal::invalid("end_time", "'end_time' must be after 'start_time'.".to_owned()));
    }
    let limit = call.limit(7, 180)?;
    let groups = groups(call)?;
    let first = next_page(call)?.unwrap_or(start - start % DAY);
    let mut days = (first..end).step_by(DAY as usize);
    let data: Vec<Value> = days.by_ref().take(limit).map(|day| bucket(world, call, day, &groups)).collect();
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

/// The fields by which the costs are grouped. As OpenAI warns, not every combination is supported.
fn groups(call: &Call) -> Result<Vec<&str>, Refusal> {
    let allowed = ["project_id", "user_id", "line_item", "api_key_id", "api_source"];
    let groups = call.parameters("group_by");
    if let Some(unknown) = groups.iter().find(|sent| !allowed.contains(*sent)) {
        return Err(Refusal::not_one_of("group_by", &allowed, unknown));
    }
    let by_project = groups.contains(&"project_id") || !call.parameters("project_ids").is_empty();
    if groups.contains(&"user_id") && by_project {
        let message = "Grouping by 'user_id' cannot be combined with projects for this organization.";
        return Err(Refusal::invalid("group_by", message.to_owned()));
    }
    Ok(groups)
}

fn bucket(world: &World, call: &Call, day: u64, groups: &[&str]) -> Value {
    let (projects, keys) = (call.parameters("project_ids"), call.parameters("api_key_ids"));
    let asked = |one: &&Spending| {
        (projects.is_empty() || projects.contains(&one.project.as_str()))
            && (keys.is_empty() || one.api_key.as_deref().is_some_and(|key| keys.contains(&key)))
    };
    let spent = world.spending.iter().filter(|one| (day..day + DAY).contains(&one.at)).filter(asked);
    let mut results: BTreeMap<Group, Vec<Option<f64>>> = BTreeMap::new();
    for one in spent {
        results.entry(Group::of(one, groups)).or_default().push(one.amount);
    }
    if results.is_empty() && groups.is_empty() {
        results.insert(Group::default(), vec![Some(0.0)]);
    }
    let results: Vec<Value> = results.iter().map(|(group, amounts)| group.result(amounts)).collect();
    json!({"object": "bucket", "start_time": day, "end_time": day + DAY, "results": results})
}

impl Group {
    fn of(spending: &Spending, groups: &[&str]) -> Self {
        Self {
            project: groups.contains(&"project_id").then(|| spending.project.clone()),
            user: spending.user.clone().filter(|_| groups.contains(&"user_id")),
            api_key: spending.api_key.clone().filter(|_| groups.contains(&"api_key_id")),
            source: groups.contains(&"api_source").then_some("unlabeled"),
        }
    }

    /// One amount that is unknown makes the sum unknown: OpenAI then sends null.
    fn result(&self, amounts: &[Option<f64>]) -> Value {
        let value = amounts.iter().copied().sum::<Option<f64>>();
        json!({
            "object": "organization.costs.result",
            "amount": {"value": value, "currency": value.map(|_| "usd")},
            "line_item": null,
            "project_id": self.project,
            "user_id": self.user,
            "api_key_id": self.api_key,
            "api_source": self.source,
            "quantity": null,
            "quantity_unit": null,
        })
    }
}
