//! The paths `metrics`, `info` and `health`. Each reads a bounded amount of storage, writes nothing and calls no OpenAI.
//! So they answer on a standby, without a configuration, and during an outage of OpenAI.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::engine::accounts::kind::{Pending, PendingWork};
use crate::engine::accounts::owner::Owner;
use crate::engine::accounts::pending;
use crate::engine::config::configuration::{Config, ONLY};
use crate::engine::creds::{ledger, live};
use crate::engine::operator::costs;
use crate::engine::telemetry::metrics::{Metric, TEXT_FORMAT, levels};
use crate::engine::telemetry::openai_status::{Failure, Outcomes};
use crate::engine::time::rfc3339;
use crate::engine::{Engine, Error, build, federation, library};
use crate::framework::{Call, Help, Path, ResponseField};
use crate::logical::{Operation, Response, Storage};

/// Highest count. It means this number or more.
const MAX_COUNT: usize = 1_000;
/// Seconds after which pending deletions, creations and rotations degrade the status.
const MAX_DELAY: u64 = 600;
/// Seconds after which failing calls degrade the status. The client retries shorter failures by itself.
const MIN_OUTAGE: u64 = 120;

const METRICS_HELP: Help = Help {
    synopsis: "Read this mount's metrics in Prometheus' text format.",
    description: "\
Answers text, not JSON: counters since the start of the plugin's process, and gauges computed from storage at each read. A \
scraper needs only a policy that allows `read` on this path.

    $ vault read -format=raw openai/metrics
    $ curl -H \"X-Vault-Token: $VAULT_TOKEN\" $VAULT_ADDR/v1/openai/metrics",
};

const INFO_HELP: Help = Help {
    synopsis: "Read the plugin's version, and the tag in the names of the mount's accounts.",
    description: "\
The names of all service accounts that this mount creates end in its tag.

    $ vault read openai/info",
};

const HEALTH_HELP: Help = Help {
    synopsis: "Read the state of the mount: OpenAI, pending deletions, late rotations.",
    description: "\
status is ok, degraded (with reasons) or unconfigured. It comes from storage and from the calls made so far; OpenAI is not \
called.

    $ vault read openai/health",
};

const INFO: &[ResponseField] = &[
    ResponseField::new::<String>("version", "The plugin's version."),
    ResponseField::new::<String>("commit", "Commit hash reported by the binary."),
    ResponseField::new::<String>("build", "Build profile, system and architecture."),
    ResponseField::new::<String>("mount_tag", "Last part of the names of this mount's accounts at OpenAI."),
];

const HEALTH: &[ResponseField] = &[
    ResponseField::new::<bool>("configured", "True if the mount is configured."),
    ResponseField::new::<String>("status", "ok, degraded or unconfigured."),
    ResponseField::new::<Vec<String>>("reasons", "Reasons of the status degraded."),
    ResponseField::new::<String>("revocation_mode", "strict or queue."),
    ResponseField::new::<DateTime<Utc>>(
        "last_success",
        "Time of this process' last successful call; empty before the first.",
    ),
    ResponseField::new::<String>("last_error", "Reason of this process' last failed call."),
    ResponseField::new::<String>("last_error_endpoint", "The call that failed."),
    ResponseField::new::<DateTime<Utc>>("last_error_at", "Time of the last failure."),
    ResponseField::new::<i64>(
        "pending_deletions",
        "Number of pending deletions at OpenAI, as revocations lists them; at most 1000.",
    ),
    ResponseField::new::<i64>(
        "pending_deletion_age",
        "Time for which the oldest of them has been due, in seconds.",
    ),
    ResponseField::new::<i64>(
        "unfinished_creations",
        "Creations that were cut off and are not undone yet. Creations that share one write-ahead entry \
        count once.",
    ),
    ResponseField::new::<i64>("unfinished_creation_age", "Age of the oldest of them, in seconds."),
    ResponseField::new::<i64>("overdue_rotations", "Number of rotations that are due."),
    ResponseField::new::<i64>(
        "overdue_rotation_age",
        "Time for which the oldest of them has been due, in seconds.",
    ),
];

pub(in crate::engine) fn paths() -> Vec<Path<Engine>> {
    vec![
        Path::new("metrics", METRICS_HELP).on(Operation::Read, metrics),
        Path::new("info", INFO_HELP).on(Operation::Read, info).responds(Operation::Read, INFO),
        Path::new("health", HEALTH_HELP).on(Operation::Read, health).responds(Operation::Read, HEALTH),
    ]
}

/// The state of the mount, from storage and from the calls so far.
struct Observation {
    now: DateTime<Utc>,
    config: Option<Arc<Config>>,
    pending: Vec<Pending>,
    /// Pending deletions of keys and accounts, with those of credentials.
    deletions: Due,
    creations: Due,
    rotations: Due,
    /// Changes that storage has and OpenAI does not.
    changes: Due,
    federation: federation::observation::Observation,
    /// Library sets with accounts that OpenAI no longer has.
    missing: Vec<(String, usize)>,
    outcomes: Outcomes,
    /// The number of credentials at OpenAI that storage does not know.
    unknown_credentials: usize,
}

/// The metrics as text, with current gauges.
pub(in crate::engine) async fn metrics_text(engine: &Engine, storage: &dyn Storage) -> Result<String, Error> {
    let observation = observe(engine, storage).await?;
    let federated_roles = if observation.federation.is_configured {
        federation::role::FEDERATED_ROLES.names(storage).await?.len()
    } else {
        0
    };
    for (level, value) in observation.levels(federated_roles) {
        engine.metrics.level(level, value);
    }
    if observation.config.is_some_and(|config| config.quota_tracking) {
        costs::update_metrics(engine, storage).await?;
    }
    live::measure(engine);
    Ok(engine.metrics.render())
}

async fn observe(engine: &Engine, storage: &dyn Storage) -> Result<Observation, Error> {
    let now = engine.now();
    let pending = pending::all(engine, storage, now, MAX_COUNT).await?;
    let (credentials, oldest) = ledger::pending(storage, now, MAX_COUNT).await?;
    let deletions = Due::of(&pending, |work| *work == PendingWork::Deletion);
    let creations = Due::of(&pending, |work| matches!(work, PendingWork::LookUp(_)));
    Ok(Observation {
        now,
        config: engine.config.stored.get(storage, ONLY).await?,
        rotations: Due::of(&pending, |work| *work == PendingWork::Rotation),
        deletions: Due {
            count: (credentials + deletions.count + creations.count).min(MAX_COUNT),
            oldest: deletions.oldest.into_iter().chain(oldest).min(),
        },
        creations,
        changes: Due::of(&pending, |work| *work == PendingWork::Change),
        federation: federation::observation::observe(engine, storage, now).await?,
        pending,
        missing: library::missing::counts(storage).await?,
        outcomes: engine.config.clients.openai_status().outcomes(),
        unknown_credentials: engine.creds.recovery.unknown_credentials(),
    })
}

/// The number of due items, and the due time of the oldest.
#[derive(Clone, Copy, Debug)]
struct Due {
    count: usize,
    oldest: Option<DateTime<Utc>>,
}

/// An age in words: `1h 30m`.
fn age(seconds: u64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(seconds))
}

impl Due {
    fn of(pending: &[Pending], is: impl Fn(&PendingWork) -> bool) -> Self {
        let mut since: Vec<_> = pending.iter().filter(|one| is(&one.work)).map(|one| one.since).collect();
        since.sort_unstable();
        Self { count: since.len(), oldest: since.first().copied() }
    }

    /// The age of the oldest item in seconds; zero if nothing is due.
    fn age(&self, now: DateTime<Utc>) -> u64 {
        self.oldest.and_then(|oldest| (now - oldest).to_std().ok()).unwrap_or_default().as_secs()
    }
}

impl Observation {
    #[expect(clippy::cast_precision_loss, reason = "seconds and counts are far below 2^52")]
    fn levels(&self, federated_roles: usize) -> [(Metric, f64); 12] {
        let key_age = self.config.as_ref().and_then(|config| (self.now - config.last_rotated).to_std().ok());
        [
            (levels::OVERDUE_ROTATIONS, self.rotations.count as f64),
            (levels::ROTATION_OVERDUE, self.rotations.age(self.now) as f64),
            (levels::PENDING_DELETIONS, self.deletions.count as f64),
            (levels::PENDING_DELETION_AGE, self.deletions.age(self.now) as f64),
            (levels::UNFINISHED_CREATIONS, self.creations.count as f64),
            (levels::UNFINISHED_CREATION_AGE, self.creations.age(self.now) as f64),
            (levels::ADMIN_KEY_AGE, key_age.unwrap_or_default().as_secs() as f64),
            (levels::ADMIN_KEY_REFUSED, f64::from(u8::from(self.outcomes.refused))),
            (levels::SIGNING_KEY_AGE, self.federation.key_age.as_secs() as f64),
            (levels::FEDERATED_ROLES, federated_roles as f64),
            (levels::REFUSED_FEDERATED_ROLES, self.federation.refused as f64),
            (levels::PENDING_CHANGES, self.changes.count as f64),
        ]
    }

    /// The reasons of the status `degraded`.
    fn reasons(&self) -> Vec<String> {
        let failing = self.outcomes.failing_since.and_then(|since| (self.now - since).to_std().ok());
        let deletions = self.deletions.age(self.now);
        let rotations = self.rotations.age(self.now);
        let missing = self.missing.iter().map(|(set, count)| {
            let reason = format!(
                "OpenAI no longer has {count} of the accounts of library set {set}: see library-sets/{set}/status, then \
                 write its service_account_names again"
            );
            (true, reason)
        });
        [
            (self.outcomes.refused, "OpenAI refuses the admin key".to_owned()),
            (
                failing.is_some_and(|age| age.as_secs() > MIN_OUTAGE),
                format!("no call to OpenAI has succeeded for {}", age(failing.unwrap_or_default().as_secs())),
            ),
            (
                deletions > MAX_DELAY,
                format!(
                    "a key or account that should have been deleted {} ago is not deleted: revocations lists it",
                    age(deletions)
                ),
            ),
            (self.creations.age(self.now) > MAX_DELAY, self.unfinished()),
            (rotations > MAX_DELAY, format!("a rotation is overdue for {}", age(rotations))),
            (
                self.unknown_credentials > 0,
                format!(
                    "OpenAI has {} or more credentials of this mount that storage does not know: storage was restored \
                     from a backup, or copied. They stay until tidy removes them or they end",
                    self.unknown_credentials
                ),
            ),
        ]
        .into_iter()
        .chain(missing)
        .filter_map(|(is_so, reason)| is_so.then_some(reason))
        .chain(self.late_changes())
        .chain(self.federation.reasons.iter().cloned())
        .collect()
    }

    /// Changes that storage has and OpenAI does not, after some time.
    fn late_changes(&self) -> impl Iterator<Item = String> {
        let late = self.pending.iter().filter(|one| one.work == PendingWork::Change);
        let late =
            late.filter(|one| (self.now - one.since).to_std().is_ok_and(|age| age.as_secs() > MIN_OUTAGE));
        late.map(|one| {
            let owner = one.owner.as_ref().map(Owner::described).unwrap_or_default();
            let why = one.retry.last_error.as_deref().unwrap_or("it was interrupted");
            format!("{owner} is not as written at OpenAI, which Vault repeats: {why}")
        })
    }

    fn unfinished(&self) -> String {
        let said = format!(
            "a creation that was interrupted {} ago is not undone",
            age(self.creations.age(self.now))
        );
        let oldest = self.pending.iter().find(|one| Some(one.since) == self.creations.oldest);
        let configured = self.config.as_ref().map(|config| &config.organization_id);
        match oldest.map(|oldest| &oldest.work) {
            Some(PendingWork::LookUp(organization)) if configured != Some(organization) => {
                format!("{said}: it waits for a configuration of organization {organization}")
            }
            _ => said,
        }
    }
}

async fn metrics(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let text = metrics_text(&engine, &**call.storage()).await?;
    Ok(Some(Response::raw(200, TEXT_FORMAT, text)))
}

async fn info(engine: Arc<Engine>, _: Call) -> Result<Option<Response>, Error> {
    Ok(Some(Response::of([
        ("version", Value::from(engine.version)),
        ("commit", build::COMMIT.into()),
        ("build", build::describe().into()),
        ("mount_tag", engine.tag.as_str().into()),
    ])))
}

async fn health(engine: Arc<Engine>, call: Call) -> Result<Option<Response>, Error> {
    let observation = observe(&engine, &**call.storage()).await?;
    let reasons = observation.reasons();
    let Observation { now, config, deletions, creations, rotations, outcomes, federation, .. } = observation;
    // A mount that issues tokens by hand needs no configuration.
    let status = match config.is_some() || federation.is_configured {
        false => "unconfigured",
        true if reasons.is_empty() => "ok",
        true => "degraded",
    };
    let failure = outcomes.last_failure.as_ref();
    let time = |time: Option<DateTime<Utc>>| Value::from(time.map(rfc3339::text).unwrap_or_default());
    Ok(Some(Response::of([
        ("configured", config.is_some().into()),
        ("status", status.into()),
        ("reasons", reasons.into()),
        ("revocation_mode", config.map_or("".into(), |config| json!(config.revocation_mode))),
        ("last_success", time(outcomes.last_success)),
        ("last_error", failure.map(Failure::in_words).unwrap_or_default().into()),
        ("last_error_endpoint", failure.map_or("", |failure| failure.endpoint).into()),
        ("last_error_at", time(failure.map(|failure| failure.at))),
        ("pending_deletions", deletions.count.into()),
        ("pending_deletion_age", deletions.age(now).into()),
        ("unfinished_creations", creations.count.into()),
        ("unfinished_creation_age", creations.age(now).into()),
        ("overdue_rotations", rotations.count.into()),
        ("overdue_rotation_age", rotations.age(now).into()),
    ])))
}
