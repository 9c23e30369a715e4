//! Many leases run out while OpenAI takes few calls. Vault's expiration manager is played, only less patient: 200 workers,
//! six tries for each lease, half of Vault's wait after the first failure, doubled, give or take a half (PROTOCOL 8.8).

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use openai_secrets::logical::{Operation, Request, Secret};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::simulator::{Limit, Per};
use crate::support::Mount;

const WORKERS: usize = 200;
const TRIES: u32 = 6;

/// A storm to come.
struct Storm {
    leases: usize,
    ttl: Duration,
    margin: Duration,
    calls_a_second: usize,
    /// What is waited after a first failure; Vault waits 20 s.
    first_wait: Duration,
}

/// What came of one lease.
struct Ended {
    tries: u32,
    revoked: bool,
    at: Duration,
    longest: Duration,
}

/// What came of a storm.
#[derive(Debug)]
struct Report {
    issued_in: Duration,
    irrevocable: usize,
    most_tries: u32,
    last_revoked: Duration,
    longest_call: Duration,
    keys_dead: Duration,
    accounts_left: usize,
    answered_429: usize,
}

impl Report {
    fn print(&self) {
        let Self { issued_in, irrevocable, most_tries, last_revoked, longest_call, .. } = self;
        let Self { keys_dead, accounts_left, answered_429, .. } = self;
        println!("issued in {issued_in:?}; all keys dead {keys_dead:?} after their leases");
        println!(
            "irrevocable: {irrevocable}; all revoked after {last_revoked:?} and at most {most_tries} tries"
        );
        println!(
            "longest revocation: {longest_call:?}; 429s: {answered_429}; accounts left: {accounts_left}"
        );
    }
}

async fn issue(mount: &Mount, storm: &Storm) -> Vec<Secret> {
    let issuing = stream::iter(0..storm.leases).map(|_| async {
        let data = json!({"ttl": storm.ttl.as_secs()});
        let answer = mount.backend().handle(mount.request(Operation::Read, "creds/app", data)).await;
        let lease = answer.unwrap().unwrap().lease.unwrap();
        let issue_time = Some(chrono::Utc::now());
        let (internal, ttl, max_ttl) = (lease.internal, lease.ttl, lease.max_ttl);
        let (lease_id, increment, renewable) = (String::new(), Duration::ZERO, false);
        Secret { lease_id, internal, ttl, max_ttl, increment, renewable, issue_time }
    });
    issuing.buffer_unordered(64).collect().await
}

fn revocation(mount: &Mount, lease: &Secret) -> Request {
    let mut request = mount.request(Operation::Revoke, "creds/app", json!({}));
    request.secret = Some(lease.clone());
    request
}

/// One lease from its end until it is revoked or irrevocable.
async fn expire(
    mount: &Mount,
    lease: Secret,
    workers: &Semaphore,
    since: Instant,
    first_wait: Duration,
) -> Ended {
    let mut longest = Duration::ZERO;
    for tries in 1..=TRIES {
        let worker = workers.acquire().await.unwrap();
        let began = Instant::now();
        let revoked = mount.backend().handle(revocation(mount, &lease)).await.is_ok();
        longest = longest.max(began.elapsed());
        drop(worker);
        if revoked || tries == TRIES {
            return Ended { tries, revoked, at: since.elapsed(), longest };
        }
        let dice: f64 = rand::random();
        sleep((first_wait * 2_u32.pow(tries - 1)).mul_f64(0.5 + dice)).await;
    }
    unreachable!("the last try returns")
}

/// How long it takes from now until no key lives.
async fn until_dead(mount: &Mount) -> Duration {
    let began = Instant::now();
    while mount.sim.state().live_keys().next().is_some() {
        sleep(Duration::from_millis(250)).await;
    }
    began.elapsed()
}

async fn tick_every_minute(mount: &Mount) {
    loop {
        sleep(Duration::from_secs(60)).await;
        mount.backend().handle(mount.request(Operation::Rollback, "", json!({}))).await.unwrap();
    }
}

async fn rage(mount: &Arc<Mount>, storm: &Storm) -> Report {
    let began = Instant::now();
    let leases = issue(mount, storm).await;
    let issued_in = began.elapsed();
    mount.sim.limit(Limit::everywhere(storm.calls_a_second, Per::Second));
    sleep(storm.ttl.saturating_sub(began.elapsed())).await;
    let (since, workers, first_wait) = (Instant::now(), Semaphore::new(WORKERS), storm.first_wait);
    let ends = leases.into_iter().map(|lease| expire(mount, lease, &workers, since, first_wait));
    let storming = async { tokio::join!(join_all(ends), until_dead(mount)) };
    let (ended, keys_dead) = tokio::select! {
        ended = storming => ended,
        () = tick_every_minute(mount) => unreachable!("it never ends"),
    };
    Report {
        issued_in,
        irrevocable: ended.iter().filter(|ended| !ended.revoked).count(),
        most_tries: ended.iter().map(|ended| ended.tries).max().unwrap_or_default(),
        last_revoked: ended.iter().map(|ended| ended.at).max().unwrap_or_default(),
        longest_call: ended.iter().map(|ended| ended.longest).max().unwrap_or_default(),
        keys_dead,
        accounts_left: mount.sim.state().accounts.len(),
        answered_429: mount.sim.log().iter().filter(|call| call.status == 429).count(),
    }
}

async fn before(storm: &Storm) -> Arc<Mount> {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    mount.write("config", json!({"key_expiry_margin": storm.margin.as_secs()})).await.done();
    Arc::new(mount)
}

/// Ticks until nothing stands; answers how many it took and how long they were at it.
async fn clear_up(mount: &Mount, most: usize) -> (usize, Duration) {
    let mut busy = Duration::ZERO;
    for ticks in 1..=most {
        let began = Instant::now();
        mount.backend().handle(mount.request(Operation::Rollback, "", json!({}))).await.unwrap();
        busy += began.elapsed();
        if mount.sim.state().accounts.is_empty() {
            return (ticks, busy);
        }
    }
    panic!("{} accounts stand after {most} ticks", mount.sim.state().accounts.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_storm_at_ten_times_the_speed_makes_no_lease_irrevocable() {
    let storm = Storm {
        leases: 200,
        ttl: Duration::from_secs(3),
        margin: Duration::from_secs(6),
        calls_a_second: 2,
        first_wait: Duration::from_secs(1),
    };
    let mount = before(&storm).await;
    let report = rage(&mount, &storm).await;
    report.print();
    assert_eq!(report.irrevocable, 0);
    assert!(report.keys_dead < Duration::from_secs(12), "{report:?}");
    assert!(report.accounts_left > 100, "a storm that OpenAI could take at once shows nothing: {report:?}");
    mount.sim.clear_limits();
    mount.advance(Duration::from_secs(240));
    println!("all gone: {:?}", clear_up(&mount, 2).await);
    assert_eq!(mount.stored("ledger/"), Vec::<String>::new());
}

/// In real time: about seven minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes seven minutes"]
async fn three_thousand_six_hundred_leases_run_out_while_openai_takes_two_calls_a_second() {
    let storm = Storm {
        leases: 3600,
        ttl: Duration::from_secs(30),
        margin: Duration::from_secs(60),
        calls_a_second: 2,
        first_wait: Duration::from_secs(10),
    };
    let mount = before(&storm).await;
    let report = rage(&mount, &storm).await;
    report.print();
    assert_eq!(report.irrevocable, 0);
    assert!(report.keys_dead < Duration::from_secs(120), "{report:?}");
    sleep(Duration::from_secs(120)).await;
    let (left, began) = (mount.sim.state().accounts.len(), Instant::now());
    let minute = mount.backend().handle(mount.request(Operation::Rollback, "", json!({}))).await;
    minute.unwrap();
    println!(
        "a tick of {:?} removed {} at two a second",
        began.elapsed(),
        left - mount.sim.state().accounts.len()
    );
    mount.sim.clear_limits();
    mount.sim.latency(Duration::from_millis(50));
    println!("once OpenAI opens up, all gone after ticks, busy: {:?}", clear_up(&mount, 10).await);
    assert_eq!(mount.stored("ledger/"), Vec::<String>::new());
}
