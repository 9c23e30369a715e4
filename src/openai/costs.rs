//! The organization's costs by day.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};

use super::call::Request;
use super::{Call, Client, Error, ProjectId, ServiceAccountId};

/// Maximum number of days in one page.
const DAYS: u32 = 180;

/// Groups of the lines of a day. OpenAI does not support every combination, so a query has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CostGroup {
    /// By project.
    Project,
    /// By user, which is the service account for costs of its keys and tokens.
    User,
}

/// One page of costs.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Costs {
    /// The days.
    #[serde(rename = "data")]
    pub buckets: Vec<CostBucket>,
    /// Cursor for `page`; `None` on the last page.
    #[serde(default, rename = "next_page")]
    pub next: Option<String>,
}

/// One day.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct CostBucket {
    /// Start of the day.
    #[serde(rename = "start_time", with = "chrono::serde::ts_seconds")]
    pub start: DateTime<Utc>,
    /// End of the day.
    #[serde(rename = "end_time", with = "chrono::serde::ts_seconds")]
    pub end: DateTime<Utc>,
    /// Costs of the day.
    #[serde(default, rename = "results")]
    pub lines: Vec<CostLine>,
}

/// Costs of one group.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct CostLine {
    /// The project, if the lines are grouped by project.
    #[serde(default)]
    pub project_id: Option<ProjectId>,
    /// The service account, if the lines are grouped by user. `None` for an id that is none.
    #[serde(default, rename = "user_id", deserialize_with = "account")]
    pub service_account_id: Option<ServiceAccountId>,
    /// Amount; `None` where OpenAI sends none.
    #[serde(default, deserialize_with = "amount")]
    pub amount: Option<Amount>,
}

/// An amount of money.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Amount {
    /// Value in units of the currency.
    pub value: f64,
    /// Currency, such as `usd`; empty where OpenAI sends none.
    pub currency: String,
}

/// An amount as OpenAI sends it. Both fields may be null.
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

impl CostGroup {
    fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project_id",
            Self::User => "user_id",
        }
    }
}

impl Client {
    /// Reads costs by day and group from `start` on. `page` is the cursor from [`Costs::next`].
    pub async fn costs(
        &self,
        start: DateTime<Utc>,
        group: CostGroup,
        page: Option<&str>,
    ) -> Result<Costs, Error> {
        let mut request = Request::get(Call::Costs, &["organization", "costs"])
            .with("start_time", start.timestamp())
            .with("limit", DAYS)
            .with("group_by[]", group.as_str());
        if let Some(page) = page {
            request = request.with("page", page);
        }
        self.send(request).await
    }
}

/// A person's id may look otherwise than a service account's; it is no error.
fn account<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ServiceAccountId>, D::Error> {
    let id: Option<String> = Option::deserialize(deserializer)?;
    Ok(id.and_then(|id| id.parse().ok()))
}

/// OpenAI sends an amount as a number, or as a string if the decimals are long. An amount without a value reads as
/// `None`.
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
