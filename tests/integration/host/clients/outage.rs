//! The agents and consul-template in an outage of OpenAI that is longer than a credential's lease, than a read waits for
//! OpenAI, and than one agent's retries last: the files stay, and when it is over all of them are caught up with.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::templates::{
    CREDS, ROTATING, ROTATION, audited, first_key, key_of, reader, renewed, set_up, templates,
};
use crate::simulator::endpoint::CREATE_ACCOUNT;
use crate::simulator::{Action, Fault};
use crate::support::host::{Host, on_each_server};
use crate::support::openai::OpenAi;
use crate::support::templates::{Renderer, Template};
use crate::support::wait::{eventually, within};

const ONCE: &str = "openai/static-creds/once";
/// A lease of `creds` is over in 20 seconds, a read waits for OpenAI for 45, and within a minute a minute begins.
const OUTAGE: Duration = Duration::from_secs(61);
/// What was lost is looked for from an age on that no read comes to while OpenAI fails at once.
const SHORTENED: [&str; 2] = ["OPENAI_SWEEP_AGE=15", "OPENAI_LEDGER_GRACE=1"];
/// As long as these programs wait for an answer.
const THEIR_PATIENCE: TimeDelta = TimeDelta::seconds(60);
/// The tick that was under way when OpenAI came back, and two more.
const UNTIL_ALL_IS_REMOVED: Duration = Duration::from_secs(250);

/// A program, and what it had rendered before OpenAI came back.
struct Reader {
    renderer: Renderer,
    files: Vec<(&'static str, String)>,
}

#[tokio::test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs --features failpoints, as `make test` gives it")]
async fn an_outage_that_outlives_a_lease_is_got_over_by_all_that_read() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.register_with(&SHORTENED).await;
        set_up(host, &openai).await;
        let role = json!({
            "project": "my-project", "service_account_id": openai.existing_account("once"),
            "rotation_schedule": "0 0 1 1 *", "ttl": "10s", "grace_period": 0,
        });
        host.api().write("openai/static-roles/once", role).await.ok();
        let token = reader(host).await;
        let renderers = start(host, &token).await;

        let began = goes_down(host, &openai).await;
        assert_is_told_why(host).await;
        let mut readers: Vec<_> =
            join_all(renderers.into_iter().map(|renderer| Reader::of(host, renderer))).await;
        let late = Reader::of(host, Renderer::agent(host, &files()).await).await;
        assert_eq!(late.files[0], ("creds", String::new()));
        readers.push(late);
        lasts(began, &readers).await;
        for reader in &mut readers {
            reader.has_what_it_had();
        }
        assert_were_answered(host, began);

        openai.comes_back();
        join_all(readers.iter().map(|reader| reader.catches_up(host, &openai))).await;
        let kept = host.api().read(&format!("{CREDS}?ttl=10m")).await.ok().text("service_account");
        let old: Vec<_> = readers.into_iter().flat_map(|reader| reader.files).map(|(_, key)| key).collect();
        only_what_has_a_lease_is_left(host, &openai, kept).await;
        let dead = async || (!old.iter().any(|key| openai.state().is_live(key))).then_some(());
        eventually("what was replaced is dead", dead).await;
    })
    .await;
}

fn files() -> Vec<Template> {
    templates().into_iter().chain([("once", key_of(ONCE))]).collect()
}

/// One agent with the retries that it has by itself, one with none, and consul-template.
async fn start(host: &Host, token: &str) -> Vec<Renderer> {
    let mut renderers =
        vec![Renderer::agent(host, &files()).await, Renderer::agent_without_retries(host, &files()).await];
    renderers.extend(Renderer::consul_template(host, token, &files()));
    for renderer in &renderers {
        for (file, _) in files() {
            first_key(host, renderer, file).await;
        }
    }
    renderers
}

/// OpenAI makes the accounts that it is asked for, but nobody hears of it, and it does nothing else. One rotation is put
/// into a minute that begins in the meantime.
async fn goes_down(host: &Host, openai: &OpenAi) -> DateTime<Utc> {
    let soon = Utc::now() + TimeDelta::minutes(1);
    let schedule = json!({"rotation_schedule": format!("{} * * * *", soon.minute())});
    host.api().write("openai/static-roles/once", schedule).await.ok();
    openai.simulator().fault(Fault::on(CREATE_ACCOUNT, Action::Drop).after_the_work());
    openai.goes_down();
    Utc::now()
}

/// What they are told, whom no refusal keeps from asking again. It is none that Vault's own clients repeat by themselves.
async fn assert_is_told_why(host: &Host) {
    let answer = host.api().read(CREDS).await;
    let sentence = answer.body["errors"].to_string();
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(
        sentence.contains("service account creation failed") && sentence.contains("when OpenAI is back"),
        "{answer:?}"
    );
}

/// Until the leases are over and the minute of the rotation has come, and each had no credential: one gave up, the others
/// go on retrying.
async fn lasts(began: DateTime<Utc>, readers: &[Reader]) {
    let has = |reader: &Reader, text| reader.renderer.log().contains(text);
    let gave_up = |reader: &Reader| has(reader, "exceeded maximum retries");
    let refused = |reader: &Reader| gave_up(reader) || has(reader, "retry attempt");
    let all =
        within(ROTATION, async || (readers.iter().all(refused) && readers.iter().any(gave_up)).then_some(()));
    if all.await.is_none() {
        let told: Vec<_> = readers.iter().map(|it| (it.renderer.name, refused(it), gave_up(it))).collect();
        panic!("refused, and gave up: {told:?}");
    }
    println!("all go on after {} s", (Utc::now() - began).num_seconds());
    tokio::time::sleep(OUTAGE.saturating_sub((Utc::now() - began).to_std().unwrap_or_default())).await;
    println!("down for {} s", (Utc::now() - began).num_seconds());
}

impl Reader {
    /// It has the present static keys, also if it started after OpenAI went down. In its file for a credential is what
    /// there was.
    async fn of(host: &Host, renderer: Renderer) -> Self {
        let mut files = vec![("creds", renderer.rendered("creds").unwrap_or_default())];
        for path in ROTATING.into_iter().chain([ONCE]) {
            let (file, name) = (path.rsplit('/').next().unwrap_or_default(), renderer.name);
            let key = host.api().read(path).await.ok().text("api_key");
            host.keep_secret(&key);
            let has_it = async || (renderer.rendered(file)? == key).then_some(());
            eventually(&format!("{name} renders the present key of {file}"), has_it).await;
            files.push((file, key));
        }
        Self { renderer, files }
    }

    fn has_what_it_had(&mut self) {
        let name = self.renderer.name;
        assert!(self.renderer.is_running(), "{name} gave up");
        for (file, before) in &self.files {
            assert_eq!(self.renderer.rendered(file).as_deref().unwrap_or_default(), before, "{name}: {file}");
        }
    }

    /// It has another key in each file, which works: if that one was rotated in turn, then the next.
    async fn catches_up(&self, host: &Host, openai: &OpenAi) {
        let came_back = Instant::now();
        for (file, before) in &self.files {
            let name = self.renderer.name;
            let works = async || {
                let key = renewed(host, &self.renderer, file, before).await?;
                openai.accepts(&key).await.then_some(())
            };
            assert!(
                within(ROTATION, works).await.is_some(),
                "{name} never had another key that works in {file}"
            );
            println!("{name}: {file} after {:?}", came_back.elapsed());
        }
    }
}

/// Static keys are read as ever, and no read of a credential is held for so long that they would hang up.
fn assert_were_answered(host: &Host, began: DateTime<Utc>) {
    for path in ROTATING.into_iter().chain([ONCE]) {
        let answers = answered_since(host, path, began);
        assert!(!answers.is_empty() && answers.iter().all(|it| !it.is_error), "{path}: {answers:?}");
    }
    let answers = answered_since(host, CREDS, began);
    assert!(answers.iter().all(|it| it.is_error && it.held < THEIR_PATIENCE), "{answers:?}");
    println!("held: {:?}", answers.iter().map(|it| it.held.num_seconds()).collect::<Vec<_>>());
}

/// An answer that one of the programs had.
#[derive(Debug)]
struct Answered {
    held: TimeDelta,
    is_error: bool,
}

/// What they asked for since then, as far as it was answered.
fn answered_since(host: &Host, path: &str, then: DateTime<Utc>) -> Vec<Answered> {
    let requests = audited(host, "request", path);
    let answers = audited(host, "response", path);
    let pairs = answers.iter().filter_map(|answer| {
        let id = &answer["request"]["id"];
        requests.iter().find(|it| it["request"]["id"] == *id).map(|request| (request, answer))
    });
    let answered = pairs.filter(|(request, _)| time(request) > then).map(|(request, answer)| Answered {
        held: time(answer) - time(request),
        is_error: answer["error"].is_string() || answer["response"]["data"]["error"].is_string(),
    });
    answered.collect()
}

fn time(entry: &Value) -> DateTime<Utc> {
    entry["time"].as_str().and_then(|time| time.parse().ok()).expect("an entry has its time")
}

/// The static roles' accounts, and that of the one lease that is not over; no read that was not answered left another.
async fn only_what_has_a_lease_is_left(host: &Host, openai: &OpenAi, kept: String) {
    let expected: BTreeSet<String> =
        ["by-period", "by-schedule", "once"].map(str::to_owned).into_iter().chain([kept]).collect();
    let left = async || {
        let left = openai.accounts();
        (left.len() == expected.len() && left.iter().all(|name| expected.contains(name))).then_some(())
    };
    let began = Instant::now();
    assert!(within(UNTIL_ALL_IS_REMOVED, left).await.is_some(), "left: {:?}", openai.accounts());
    println!("all removed after {:?}", began.elapsed());
    eventually("its lease alone is left", async || (host.leases().await == 1).then_some(())).await;
    assert_eq!(host.irrevocable_leases().await, 0);
}
