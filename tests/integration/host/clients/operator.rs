//! The Vault Secrets Operator, whose resource `VaultDynamicSecret` with `allowStaticCreds` reads `static-creds`, and `creds`
//! of a role with access tokens. It runs in Kubernetes only, so its rules stand here: which fields it reads and of what type,
//! when it comes back, and what it takes for a change.

use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value, json};

use super::keyless;
use crate::support::api::Answer;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::OpenAi;

/// What it keeps of a read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    /// In Unix seconds.
    last_vault_rotation: i64,
    pub(super) ttl: u64,
    /// What it writes into the Kubernetes secret, but for what it leaves out when it compares.
    data: Value,
}

impl Seen {
    /// Reads the fields as it does; a field of another type is an error there.
    pub(super) fn of(answer: &Answer) -> Self {
        assert_eq!(answer.body["lease_id"], "", "it takes this for a secret without a lease");
        let time = DateTime::parse_from_rfc3339(&answer.text("last_vault_rotation")).expect("RFC 3339");
        let whole = |field: &str| {
            answer.data(field).as_u64().unwrap_or_else(|| panic!("{field} is no whole number: {answer:?}"))
        };
        let schedule = answer.data("rotation_schedule");
        assert!(schedule.is_null() || schedule.is_string(), "{answer:?}");
        let mut data = answer.body["data"].clone();
        let fields = data.as_object_mut().expect("fields");
        for field in ["ttl", "rotation_schedule", "rotation_period", "last_vault_rotation"] {
            fields.remove(field);
        }
        let seen = Self { last_vault_rotation: time.timestamp(), ttl: whole("ttl"), data };
        // Else it takes the secret for no rotating one, and asks without a pause.
        assert!(seen.last_vault_rotation > 0 && whole("rotation_period") >= 1, "{answer:?}");
        seen
    }

    /// When it comes back: half a second after the ttl, up to some more for its jitter.
    pub(super) fn horizon(&self) -> Duration {
        Duration::from_secs(self.ttl) + Duration::from_millis(500)
    }

    /// A second read of the same rotation is tried again, and in the end is an error, while it says that little is left.
    pub(super) fn is_worth_another_try(&self, before: &Self) -> bool {
        self.last_vault_rotation == before.last_vault_rotation && self.ttl <= 2
    }

    /// It writes the Kubernetes secret, and restarts what uses it.
    pub(super) fn is_news_after(&self, before: &Self) -> bool {
        self.data != before.data
    }
}

pub(super) async fn read(host: &Host, path: &str) -> Seen {
    let answer = host.api().read(path).await.ok();
    host.keep_secret(&answer.text("api_key"));
    Seen::of(&answer)
}

#[tokio::test]
async fn the_secrets_operator_finds_its_fields_and_news_only_after_a_rotation() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let plans = [
            json!({"rotation_period": "1h"}),
            json!({"rotation_schedule": "30 4 * * *"}),
            // By hand only: it comes back once a day all the same.
            json!({"rotation_period": 0}),
        ];
        for (number, plan) in plans.into_iter().enumerate() {
            let mut role = plan;
            role["service_account_id"] = json!(openai.existing_account(&format!("account-{number}")));
            role["project"] = json!("my-project");
            host.api().write(&format!("openai/static-roles/app-{number}"), role).await.ok();
            let path = format!("openai/static-creds/app-{number}");

            let first = read(host, &path).await;
            let second = read(host, &path).await;
            assert!(!second.is_news_after(&first) && second.ttl <= first.ttl, "{first:?} {second:?}");
            assert!(!second.is_worth_another_try(&first), "{second:?}");
            assert!(second.horizon() <= Duration::from_secs(86_401), "{second:?}");

            let rotated = host.api().write(&format!("{path}/rotate"), json!({})).await.ok();
            host.keep_secret(&rotated.text("api_key"));
            let third = read(host, &path).await;
            assert!(third.is_news_after(&second), "{third:?}");
            assert!(third.last_vault_rotation >= second.last_vault_rotation);
        }
    })
    .await;
}

#[tokio::test]
async fn the_secrets_operator_comes_back_for_the_next_access_token_in_time() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        keyless::write_role(host, &openai, "10m").await;
        let read = async || {
            let answer = host.api().read(keyless::CREDS).await.ok();
            host.keep_secret(&answer.text("access_token"));
            Seen::of(&answer)
        };
        let (first, second) = (read().await, read().await);
        assert!(second.is_news_after(&first), "{second:?}");
        assert!(!second.is_worth_another_try(&first), "{second:?}");
        assert!(second.horizon() < Duration::from_secs(7 * 60), "before the token ends: {second:?}");
    })
    .await;
}
