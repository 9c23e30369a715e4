//! `quota_tracking`: OpenAI's charges for each project, and for each owner of accounts that stay. The tick asks at most
//! once an hour. Totals only grow.
//!
//! *Unit:* US cents, from the start of the UTC day on which tracking began. A later correction that lowers a day's amount
//! is not followed, because a counter must not fall.
//!
//! *Guarantees:* storage holds the totals, so a restart or a failover neither loses nor repeats an amount. The time of the
//! attempt is stored before OpenAI is asked, so no crash makes it ask more often. A later tick makes up for a missed one,
//! because each look asks from the last day that may have changed.
//!
//! *Owners:* OpenAI groups costs by service account, not by name. Static roles, library sets, and roles on an existing
//! account keep their accounts, so their costs are known. A role that creates an account for each credential has only its
//! project's total: to attribute a cost that arrives a day later, the mount would have to remember every ended account.

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
use crate::openai::{Client, CostBucket, CostGroup, CostLine, ProjectId, ServiceAccountId, Urgency};

/// Minimum time between two looks.
const INTERVAL: TimeDelta = TimeDelta::hours(1);
/// Days before the last look that are asked for again, because costs of a day arrive late.
const SETTLING: TimeDelta = TimeDelta::days(2);
/// Maximum wait of a call for its turn.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Maximum number of pages in one look. The next look reads the rest.
const MAX_PAGES: usize = 20;
/// Maximum number of projects, and of accounts. The metrics have no more labels either.
const MAX_TOTALS: usize = crate::engine::telemetry::metrics::MAX_LABELS;

/// Charges since tracking began.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Spent {
    /// Time of the last look.
    asked: DateTime<Utc>,
    /// First day that the next look asks for.
    from: DateTime<Utc>,
    /// The same for accounts, whose costs OpenAI may refuse; `None` as in earlier releases, which had one day for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accounts_from: Option<DateTime<Utc>>,
    projects: BTreeMap<ProjectId, Total>,
    /// Accounts with days that may still change.
    #[serde(default)]
    accounts: BTreeMap<ServiceAccountId, Total>,
    /// US dollars of settled days by owner, over all accounts that the owner has had.
    #[serde(default)]
    owners: BTreeMap<String, f64>,
}

/// Charges of one project or account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Total {
    /// Name of the project in Vault or its id; for an account, its owner.
    label: String,
    /// US dollars of settled days.
    settled: f64,
    /// US dollars of later days: the maximum so far, by the first second of the day.
    days: BTreeMap<i64, f64>,
}

impl Record for Spent {
    const VERSION: u32 = 1;
}

static SPENT: Collection<Spent> = Collection::new("quota");
const ONLY: &str = "";

impl Total {
    fn dollars(&self) -> f64 {
        self.settled + self.days.values().sum::<f64>()
    }

    fn charge(&mut self, day: DateTime<Utc>, dollars: f64) {
        let so_far = self.days.entry(day.timestamp()).or_default();
        *so_far = so_far.max(dollars);
    }

    fn settle(&mut self, before: DateTime<Utc>) {
        let open = self.days.split_off(&before.timestamp());
        self.settled += std::mem::replace(&mut self.days, open).values().sum::<f64>();
    }
}

impl Spent {
    fn beginning(now: DateTime<Utc>) -> Self {
        Self { from: day(now), ..Self::default() }
    }

    /// True after an hour, or after the clock was put back.
    fn is_due(&self, now: DateTime<Utc>) -> bool {
        now - self.asked >= INTERVAL || self.asked > now
    }

    /// Corrects days that were stored while the clock was ahead.
    fn correct(&mut self, now: DateTime<Utc>) {
        self.from = self.from.min(day(now));
        self.accounts_from = Some(self.accounts_from.unwrap_or(self.from).min(day(now)));
    }

    /// Adds up the days of projects that no later look asks for. The look has read all days before `unread`.
    fn settle_projects(&mut self, now: DateTime<Utc>, unread: DateTime<Utc>) {
        self.from = self.from.max((day(now) - SETTLING).min(unread));
        for total in self.projects.values_mut() {
            total.settle(self.from);
        }
    }

    /// The same for accounts.
    fn settle_accounts(&mut self, now: DateTime<Utc>, unread: DateTime<Utc>) {
        let from = self.accounts_from.unwrap_or(self.from).max((day(now) - SETTLING).min(unread));
        self.accounts_from = Some(from);
        for total in self.accounts.values_mut() {
            total.settle(from);
            if total.settled > 0.0 && self.owners.len() < MAX_TOTALS || self.owners.contains_key(&total.label)
            {
                *self.owners.entry(total.label.clone()).or_default() += std::mem::take(&mut total.settled);
            }
        }
        self.accounts.retain(|_, total| !total.days.is_empty());
    }

    /// US dollars by owner.
    fn by_owner(&self) -> BTreeMap<&str, f64> {
        let mut owners: BTreeMap<&str, f64> =
            self.owners.iter().map(|(owner, dollars)| (owner.as_str(), *dollars)).collect();
        for total in self.accounts.values() {
            *owners.entry(total.label.as_str()).or_default() += total.dollars();
        }
        owners
    }
}

/// Charges the lines of a day to the known keys. A day may have several lines of one key; they add up.
fn charge<K: Ord + Clone>(
    totals: &mut BTreeMap<K, Total>,
    bucket: &CostBucket,
    known: &BTreeMap<K, String>,
    key: impl Fn(&CostLine) -> Option<&K>,
) {
    let mut charged: BTreeMap<&K, f64> = BTreeMap::new();
    for line in &bucket.lines {
        let (Some(key), Some(amount)) = (key(line), &line.amount) else { continue };
        if known.contains_key(key) && (amount.currency.is_empty() || amount.currency == "usd") {
            *charged.entry(key).or_default() += amount.value;
        }
    }
    for (key, dollars) in charged {
        if totals.len() < MAX_TOTALS || totals.contains_key(key) {
            totals.entry(key.clone()).or_default().charge(bucket.start, dollars);
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
    // This machine's clock may be behind. An earlier day would add settled days again.
    if engine.times.are_known() {
        spent.correct(now);
    }
    SPENT.put(storage, ONLY, &spent).await?;
    let client = client.for_work(Urgency::Check, MAX_WAIT);
    // Days that could not be read stay days to ask for. OpenAI's response has set the time.
    let projects = ask_for_projects(engine, storage, &client, &mut spent).await;
    if let Ok(unread) = projects {
        spent.settle_projects(engine.now(), unread);
    }
    let accounts = ask_for_accounts(engine, storage, &client, &mut spent).await;
    if let Ok(unread) = accounts {
        spent.settle_accounts(engine.now(), unread);
    }
    SPENT.put(storage, ONLY, &spent).await?;
    projects.and(accounts).map(drop)
}

/// Charges the projects. Answers the first day that the look may not have read whole.
async fn ask_for_projects(
    engine: &Engine,
    storage: &dyn Storage,
    client: &Client,
    spent: &mut Spent,
) -> Result<DateTime<Utc>, Error> {
    let known = dependents::readable_projects(engine, storage).await?;
    let (buckets, unread) = ask(client, spent.from, CostGroup::Project).await?;
    for bucket in buckets {
        charge(&mut spent.projects, &bucket, &known, |line| line.project_id.as_ref());
    }
    for (id, total) in &mut spent.projects {
        total.label = known.get(id).cloned().unwrap_or_else(|| id.to_string());
    }
    Ok(unread)
}

/// The same for accounts.
async fn ask_for_accounts(
    engine: &Engine,
    storage: &dyn Storage,
    client: &Client,
    spent: &mut Spent,
) -> Result<DateTime<Utc>, Error> {
    let known = dependents::lasting_accounts(engine, storage).await?;
    if known.is_empty() {
        return Ok(DateTime::<Utc>::MAX_UTC);
    }
    let from = spent.accounts_from.unwrap_or(spent.from);
    let (buckets, unread) = ask(client, from, CostGroup::User).await?;
    for bucket in buckets {
        charge(&mut spent.accounts, &bucket, &known, |line| line.service_account_id.as_ref());
    }
    for (id, total) in &mut spent.accounts {
        if let Some(owner) = known.get(id) {
            total.label.clone_from(owner);
        }
    }
    Ok(unread)
}

/// All days from `start` on, as far as one look reads, and the first day that it may not have read whole.
async fn ask(
    client: &Client,
    start: DateTime<Utc>,
    group: CostGroup,
) -> Result<(Vec<CostBucket>, DateTime<Utc>), Error> {
    let (mut buckets, mut page) = (Vec::<CostBucket>::new(), None);
    for _ in 0..MAX_PAGES {
        let costs = client.costs(start, group, page.as_deref()).await;
        let costs = costs.map_err(Error::call("reading costs"))?;
        buckets.extend(costs.buckets);
        page = costs.next;
        if page.is_none() {
            return Ok((buckets, DateTime::<Utc>::MAX_UTC));
        }
    }
    let unread = buckets.last().map_or(start, |bucket| bucket.start);
    Ok((buckets, unread))
}

/// Puts the totals into the metrics.
pub(in crate::engine) async fn update_metrics(engine: &Engine, storage: &dyn Storage) -> Result<(), Error> {
    // The tick reports an unreadable record; the other metrics go on.
    if let Some(spent) = StorageError::readable(SPENT.get(storage, ONLY).await)? {
        for total in spent.projects.values() {
            engine.metrics.quota_used(&total.label, cents(total.dollars()));
        }
        for (owner, dollars) in spent.by_owner() {
            engine.metrics.owner_costs(owner, cents(dollars));
        }
    }
    Ok(())
}

fn cents(dollars: f64) -> u64 {
    // Half a thousandth of a cent corrects the rounding of binary fractions.
    (dollars * 100.0 + 0.0005).floor().max(0.0) as u64
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
        let mut project = Total::default();
        let today = at("2026-03-05T00:00:00Z");
        project.charge(today, 0.29);
        assert_eq!(cents(project.dollars()), 29);
        project.charge(today, 0.10);
        assert_eq!(cents(project.dollars()), 29);
        project.charge(today, 1.006);
        project.charge(today + TimeDelta::days(1), 0.005);
        assert_eq!(cents(project.dollars()), 101);
    }

    #[test]
    fn settled_days_stay_in_the_total() {
        let mut project = Total::default();
        for (day, dollars) in [(1, 1.0), (2, 2.0), (3, 4.0)] {
            project.charge(DateTime::UNIX_EPOCH + TimeDelta::days(day), dollars);
        }
        project.settle(DateTime::UNIX_EPOCH + TimeDelta::days(3));
        assert_eq!((cents(project.dollars()), project.days.len()), (700, 1));
    }

    #[test]
    fn an_owner_keeps_the_costs_of_accounts_that_it_no_longer_has() {
        let mut spent = Spent::beginning(at("2026-03-05T13:00:00Z"));
        let account: ServiceAccountId = "svc_acct_1".parse().unwrap();
        let mut total = Total { label: "static role app".to_owned(), ..Total::default() };
        total.charge(at("2026-03-05T00:00:00Z"), 1.5);
        spent.accounts.insert(account, total);
        assert_eq!(cents(spent.by_owner()["static role app"]), 150);
        spent.settle_accounts(at("2026-03-20T13:00:00Z"), DateTime::<Utc>::MAX_UTC);
        assert!(spent.accounts.is_empty());
        assert_eq!(cents(spent.by_owner()["static role app"]), 150);
    }

    #[test]
    fn a_look_asks_again_for_days_that_may_have_changed() {
        let mut spent = Spent::beginning(at("2026-03-05T13:00:00Z"));
        assert_eq!(spent.from, at("2026-03-05T00:00:00Z"));
        spent.settle_projects(at("2026-03-06T13:00:00Z"), DateTime::<Utc>::MAX_UTC);
        assert_eq!(spent.from, at("2026-03-05T00:00:00Z"));
        spent.settle_projects(at("2026-03-20T13:00:00.5Z"), DateTime::<Utc>::MAX_UTC);
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
