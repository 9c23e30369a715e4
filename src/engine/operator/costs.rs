//! `quota_tracking`: what OpenAI charged each project, asked at most once an hour and kept as a total that only grows.
//!
//! *Unit:* US cents, from the beginning of the UTC day on which tracking began. A correction of OpenAI's that lowers a
//! day's amount is not followed, as a counter must not fall.
//!
//! *Guarantees:* the total is in storage, so a restart or a failover neither loses nor repeats an amount. The time of
//! the attempt is stored before OpenAI is asked, so no crash makes it ask more often. What a tick missed, the next one
//! makes up for, as it asks from the last day that may have changed.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::config::clients;
use crate::engine::config::clients::Configured;
use crate::engine::operator::dependents;
use crate::engine::{Engine, Error};
use crate::framework::Tick;
use crate::logical::{Collection, Record, Storage, StorageError};
use crate::openai::{Client, CostBucket, CostsQuery, ProjectId, Urgency};

/// OpenAI is asked no more often.
const INTERVAL: TimeDelta = TimeDelta::hours(1);
/// So many days before the last look are asked for again: costs of a day come in late.
const SETTLING: TimeDelta = TimeDelta::days(2);
/// As long as the tick waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most days that OpenAI tells at once.
const DAYS: u32 = 180;
/// As many pages as one look reads; the rest waits for the next hour.
const MOST_PAGES: usize = 20;
/// As many projects are kept; metrics have no more labels either.
const MOST_PROJECTS: usize = crate::engine::telemetry::metrics::MAX_LABELS;

/// What was charged since tracking began.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Spent {
    /// When OpenAI was last asked.
    asked: DateTime<Utc>,
    /// The first day that the next look asks for.
    from: DateTime<Utc>,
    projects: BTreeMap<ProjectId, Project>,
}

/// What one project was charged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Project {
    /// Its name in Vault, or its id.
    label: String,
    /// US dollars of days that are settled.
    settled: f64,
    /// US dollars of the days since, by the second a day begins at: the most that was told.
    days: BTreeMap<i64, f64>,
}

impl Record for Spent {
    const VERSION: u32 = 1;
}

static SPENT: Collection<Spent> = Collection::new("quota");
const ONLY: &str = "";

impl Project {
    fn cents(&self) -> u64 {
        let dollars = self.settled + self.days.values().sum::<f64>();
        // Half a thousandth of a cent makes up for what binary fractions lose.
        (dollars * 100.0 + 0.0005).floor().max(0.0) as u64
    }

    fn charge(&mut self, day: DateTime<Utc>, dollars: f64) {
        let told = self.days.entry(day.timestamp()).or_default();
        *told = told.max(dollars);
    }

    fn settle(&mut self, before: DateTime<Utc>) {
        let open = self.days.split_off(&before.timestamp());
        self.settled += std::mem::replace(&mut self.days, open).values().sum::<f64>();
    }
}

impl Spent {
    fn beginning(now: DateTime<Utc>) -> Self {
        Self { asked: DateTime::UNIX_EPOCH, from: day(now), projects: BTreeMap::new() }
    }

    /// An hour has passed, or the clock was put back.
    fn is_due(&self, now: DateTime<Utc>) -> bool {
        now - self.asked >= INTERVAL || self.asked > now
    }

    fn charge(&mut self, bucket: &CostBucket, known: &BTreeMap<ProjectId, String>) {
        // A day may be told by line item: its lines add up.
        let mut charged: BTreeMap<&ProjectId, f64> = BTreeMap::new();
        for line in &bucket.lines {
            let (Some(id), Some(amount)) = (&line.project_id, &line.amount) else { continue };
            if known.contains_key(id) && (amount.currency.is_empty() || amount.currency == "usd") {
                *charged.entry(id).or_default() += amount.value;
            }
        }
        for (id, dollars) in charged {
            if self.projects.len() < MOST_PROJECTS || self.projects.contains_key(id) {
                self.projects.entry(id.clone()).or_default().charge(bucket.start, dollars);
            }
        }
    }

    /// Days that no later look asks for are added up.
    fn settle(&mut self, now: DateTime<Utc>) {
        self.from = self.from.max(day(now) - SETTLING);
        for project in self.projects.values_mut() {
            project.settle(self.from);
        }
    }
}

/// Part of the tick: asks OpenAI, if tracking is on and an hour has passed.
pub(in crate::engine) async fn track(engine: &Engine, tick: &Tick) -> Result<(), Error> {
    let (storage, now) = (&*tick.storage, engine.now());
    let Configured { config, client } = match clients::configured(engine, storage).await {
        Err(Error::NotConfigured) => return Ok(()),
        configured => configured?,
    };
    if !config.quota_tracking || tick.is_over() {
        return Ok(());
    }
    let mut spent = SPENT.get(storage, ONLY).await?.unwrap_or_else(|| Spent::beginning(now));
    if !spent.is_due(now) {
        return Ok(());
    }
    spent.asked = now;
    SPENT.put(storage, ONLY, &spent).await?;
    let known = dependents::known_projects(engine, storage).await?;
    ask(&client.for_work(Urgency::Check, PATIENCE), &mut spent, &known).await?;
    spent.settle(now);
    for (id, project) in &mut spent.projects {
        project.label = known.get(id).cloned().unwrap_or_else(|| id.to_string());
    }
    Ok(SPENT.put(storage, ONLY, &spent).await?)
}

async fn ask(client: &Client, spent: &mut Spent, known: &BTreeMap<ProjectId, String>) -> Result<(), Error> {
    let mut query =
        CostsQuery { start: spent.from, end: None, projects: Vec::new(), limit: DAYS, page: None };
    for _ in 0..MOST_PAGES {
        let costs = client.costs(&query).await.map_err(Error::call("reading costs"))?;
        for bucket in &costs.buckets {
            spent.charge(bucket, known);
        }
        query.page = costs.next;
        if query.page.is_none() {
            break;
        }
    }
    Ok(())
}

/// Puts the totals into the metrics.
pub(in crate::engine) async fn update_metrics(engine: &Engine, storage: &dyn Storage) -> Result<(), Error> {
    let spent = match SPENT.get(storage, ONLY).await {
        // The tick says so; the other metrics go on.
        Err(StorageError::Malformed { .. }) => None,
        spent => spent?,
    };
    if let Some(spent) = spent {
        for project in spent.projects.values() {
            engine.metrics.quota_used(&project.label, project.cents());
        }
    }
    Ok(())
}

/// The beginning of the UTC day.
fn day(time: DateTime<Utc>) -> DateTime<Utc> {
    time - TimeDelta::seconds(time.timestamp().rem_euclid(86_400))
        - TimeDelta::nanoseconds(time.timestamp_subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_total_only_grows() {
        let mut project = Project::default();
        let today = at("2026-03-05T00:00:00Z");
        project.charge(today, 0.29);
        assert_eq!(project.cents(), 29);
        project.charge(today, 0.10);
        assert_eq!(project.cents(), 29);
        project.charge(today, 1.006);
        project.charge(today + TimeDelta::days(1), 0.005);
        assert_eq!(project.cents(), 101);
    }

    #[test]
    fn settled_days_stay_in_the_total() {
        let mut project = Project::default();
        for (day, dollars) in [(1, 1.0), (2, 2.0), (3, 4.0)] {
            project.charge(DateTime::UNIX_EPOCH + TimeDelta::days(day), dollars);
        }
        project.settle(DateTime::UNIX_EPOCH + TimeDelta::days(3));
        assert_eq!((project.cents(), project.days.len()), (700, 1));
    }

    #[test]
    fn a_look_asks_again_for_days_that_may_have_changed() {
        let mut spent = Spent::beginning(at("2026-03-05T13:00:00Z"));
        assert_eq!(spent.from, at("2026-03-05T00:00:00Z"));
        spent.settle(at("2026-03-06T13:00:00Z"));
        assert_eq!(spent.from, at("2026-03-05T00:00:00Z"));
        spent.settle(at("2026-03-20T13:00:00.5Z"));
        assert_eq!(spent.from, at("2026-03-18T00:00:00Z"));
    }

    #[test]
    fn a_look_is_due_once_an_hour_or_when_the_clock_was_put_back() {
        let spent =
            Spent { asked: at("2026-03-05T13:00:00Z"), ..Spent::beginning(at("2026-03-05T13:00:00Z")) };
        assert!(!spent.is_due(at("2026-03-05T13:59:59Z")));
        assert!(spent.is_due(at("2026-03-05T14:00:00Z")));
        assert!(spent.is_due(at("2026-03-04T14:00:00Z")));
    }
}
