//! The server's own tick, once a minute: what rotates by itself does so, and those who read meanwhile are answered.
//! The only story that waits for minutes; both servers tell it at the same time.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::api::Answer;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::{ADMIN_KEY, OpenAi};

const CREDS: &str = "openai/static-creds/watched";
/// As many roles rotate besides the one that is watched, unless `STATIC_ROLES` says another number: what a release build does
/// with a thousand is told by `STATIC_ROLES=1000 cargo test --release --test integration host::tick -- --nocapture`.
const OTHERS: usize = 100;
/// Of a period of a minute the first, with the tick after it, and some more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(170);

/// One read of the watched role's key.
struct Read {
    took: Duration,
    /// OpenAI was called since the read before.
    amid_calls: bool,
}

#[tokio::test]
async fn what_rotates_each_minute_is_rotated_by_the_servers_tick_and_its_readers_are_answered() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let others = others();
        let accounts = write_roles(host, &openai, others).await;
        host.api().patch("openai/config", json!({"automatic_rotation_period": "60s"})).await.ok();
        openai.takes(Duration::from_millis(50));

        let before = read(host).await;
        assert!(openai.accepts(&before.text("api_key")).await);
        let (after, reads) = read_until_rotated(host, &openai, &accounts, &before).await;
        assert!(openai.accepts(&after.text("api_key")).await);
        assert!(!openai.accepts(&before.text("api_key")).await);
        assert_ne!(after.data("last_vault_rotation"), before.data("last_vault_rotation"));
        assert_eq!(after.data("service_account_id"), before.data("service_account_id"));
        assert!(!openai.accepts_admin(ADMIN_KEY).await);
        for key in openai.admin_keys() {
            host.keep_secret(&key.value);
        }

        tell_times(&reads, others);
    })
    .await;
}

fn others() -> usize {
    std::env::var("STATIC_ROLES").map_or(OTHERS, |number| number.parse().expect("STATIC_ROLES is a number"))
}

/// For people, not for the test: a machine with other work to do is no failure.
fn tell_times(reads: &[Read], others: usize) {
    println!("{others} other roles rotate; all reads: {}", times(reads.iter()));
    println!("of them while OpenAI is called: {}", times(reads.iter().filter(|read| read.amid_calls)));
}

fn times<'a>(reads: impl Iterator<Item = &'a Read>) -> String {
    let mut times: Vec<_> = reads.map(|read| read.took).collect();
    times.sort_unstable();
    let Some(longest) = times.last() else { return "none".into() };
    let (count, middle, p99) = (times.len(), times[times.len() / 2], times[times.len() * 99 / 100]);
    format!("{count}, median {middle:?}, p99 {p99:?}, longest {longest:?}")
}

/// Answers the accounts of the other roles.
async fn write_roles(host: &Host, openai: &OpenAi, others: usize) -> Vec<String> {
    let mut accounts = Vec::new();
    for number in 0..others {
        let account = openai.existing_account(&format!("other-{number}"));
        let role = json!({
            "service_account_id": &account, "project": "my-project", "rotation_period": "60s", "grace_period": 0
        });
        host.api().write(&format!("openai/static-roles/other-{number}"), role).await.ok();
        accounts.push(account);
    }
    let role = json!({
        "service_account_id": openai.bystander(), "project": "my-project", "rotation_period": "60s",
        "grace_period": 0
    });
    host.api().write("openai/static-roles/watched", role).await.ok();
    accounts
}

async fn read(host: &Host) -> Answer {
    host.api().read(CREDS).await.ok()
}

/// Reads again and again, until the role, the others and the admin key have rotated. Answers the last key and how long
/// each read took.
async fn read_until_rotated(
    host: &Host,
    openai: &OpenAi,
    others: &[String],
    before: &Answer,
) -> (Answer, Vec<Read>) {
    host.keep_secret(&before.text("api_key"));
    let first_keys = live_keys(openai, others);
    let (deadline, mut reads, mut calls) = (Instant::now() + PATIENCE, Vec::new(), openai.calls());
    loop {
        let asked = Instant::now();
        let now = read(host).await;
        let took = asked.elapsed();
        reads.push(Read { took, amid_calls: openai.calls() != calls });
        calls = openai.calls();
        // A period and, so that not all begin at once, up to a twentieth more.
        let ttl = now.data("ttl").as_u64();
        assert!(ttl.is_some_and(|ttl| (1..=63).contains(&ttl)), "{now:?}");
        let rotated = now.data("api_key_id") != before.data("api_key_id");
        let admin_rotated = !openai.admin_keys().iter().any(|key| key.value == ADMIN_KEY);
        let others_rotated =
            || live_keys(openai, others).iter().zip(&first_keys).all(|(now, first)| now != first);
        if rotated && admin_rotated && others_rotated() {
            host.keep_secret(&now.text("api_key"));
            return (now, reads);
        }
        assert!(Instant::now() < deadline, "no tick rotated it in {PATIENCE:?}: {}", state(host).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn live_keys(openai: &OpenAi, accounts: &[String]) -> Vec<Vec<String>> {
    let state = openai.state();
    let live = |id: &String| {
        state
            .account(id)
            .map(|account| account.keys.iter().filter(|key| key.live).map(|key| key.id.clone()).collect())
    };
    accounts.iter().map(|id| live(id).unwrap_or_default()).collect()
}

/// What the role and the configuration say of their rotation.
async fn state(host: &Host) -> String {
    let role = host.api().read("openai/static-roles/watched").await.ok().body;
    let config = host.api().read("openai/config").await.ok().body;
    format!("{}\n{}", role["data"], config["data"])
}
