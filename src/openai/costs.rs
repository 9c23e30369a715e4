//! What the organization was charged, by day.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};

use super::call::Request;
use super::{Call, Client, Error, ProjectId};

/// Which costs to ask for.
#[derive(Clone, Debug)]
pub struct CostsQuery {
    /// From when on, inclusive.
    pub start: DateTime<Utc>,
    /// Until when, exclusive; `None`: until now.
    pub end: Option<DateTime<Utc>>,
    /// Of these projects only; empty: of all. The lines are then by project.
    pub projects: Vec<ProjectId>,
    /// How many days at most (OpenAI takes up to 180).
    pub limit: u32,
    /// Where to go on, from [`Costs::next`].
    pub page: Option<String>,
}

/// Some days of costs.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Costs {
    /// The days.
    #[serde(rename = "data")]
    pub buckets: Vec<CostBucket>,
    /// What to pass as `page` for more.
    #[serde(default, rename = "next_page")]
    pub next: Option<String>,
}

/// One day.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct CostBucket {
    /// When it begins.
    #[serde(rename = "start_time", with = "chrono::serde::ts_seconds")]
    pub start: DateTime<Utc>,
    /// When it ends.
    #[serde(rename = "end_time", with = "chrono::serde::ts_seconds")]
    pub end: DateTime<Utc>,
    /// What was charged.
    #[serde(default, rename = "results")]
    pub lines: Vec<CostLine>,
}

/// What one project was charged.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct CostLine {
    /// The project.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// How much; none where OpenAI does not say.
    #[serde(default, deserialize_with = "amount")]
    pub amount: Option<Amount>,
}

/// An amount of money.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Amount {
    /// How much.
    pub value: f64,
    /// Of what, such as `usd`; empty where OpenAI does not say.
    pub currency: String,
}

/// An amount as OpenAI writes it: either part may be null.
#[derive(Deserialize)]
struct WireAmount {
    #[serde(default)]
    value: Option<Number>,
    #[serde(default)]
    currency: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(f64),
    Text(String),
}

impl Client {
    /// Costs by day and project.
    pub async fn costs(&self, query: &CostsQuery) -> Result<Costs, Error> {
        let mut request = Request::get(Call::Costs, &["organization", "costs"])
            .with("start_time", query.start.timestamp())
            .with("limit", query.limit)
            .with("group_by[]", "project_id");
        if let Some(end) = query.end {
            request = request.with("end_time", end.timestamp());
        }
        for project in &query.projects {
            request = request.with("project_ids[]", project);
        }
        if let Some(page) = &query.page {
            request = request.with("page", page);
        }
        self.send(request).await
    }
}

/// OpenAI writes amounts as numbers, and where they are long as decimals in a string. An amount without a value is none.
fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Amount>, D::Error> {
    let Some(WireAmount { value, currency }) = Option::deserialize(deserializer)? else { return Ok(None) };
    let value = match value {
        Some(Number::Plain(number)) => number,
        Some(Number::Text(text)) => text.parse().map_err(|_| serde::de::Error::custom("not an amount"))?,
        None => return Ok(None),
    };
    Ok(Some(Amount { value, currency: currency.unwrap_or_default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_from_numbers_and_from_strings() {
        let json = r#"{"object":"page","has_more":false,"next_page":null,"data":[{"object":"bucket",
            "start_time":1730419200,"end_time":1730505600,"results":[
            {"object":"organization.costs.result","amount":{"value":0.06,"currency":"usd"},"project_id":"proj_a"},
            {"object":"organization.costs.result","amount":{"value":"1.50","currency":"usd"},"line_item":null}]}]}"#;
        let costs: Costs = serde_json::from_str(json).unwrap();
        let values: Vec<f64> =
            costs.buckets[0].lines.iter().filter_map(|line| Some(line.amount.as_ref()?.value)).collect();
        assert_eq!(values, [0.06, 1.5]);
    }

    #[test]
    fn an_amount_of_nulls_is_passed_over_and_the_page_is_read() {
        let json = r#"{"data":[{"start_time":1730419200,"end_time":1730505600,"results":[
            {"amount":{"value":null,"currency":null},"project_id":"proj_a"},
            {"amount":null,"project_id":"proj_a"},
            {"amount":{},"project_id":"proj_a"},
            {"amount":{"value":2,"currency":null},"project_id":"proj_a"}]}]}"#;
        let costs: Costs = serde_json::from_str(json).unwrap();
        let values: Vec<_> =
            costs.buckets[0].lines.iter().map(|line| line.amount.as_ref().map(|it| it.value)).collect();
        assert_eq!(values, [None, None, None, Some(2.0)]);
    }
}
