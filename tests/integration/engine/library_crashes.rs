//! The process dies, or storage fails, at each write of everything that a library set does. Then a new process ticks,
//! and one thing is true: every account is free and has no key, or lent with its lease; nothing else stands.

use std::time::Duration;

use openai_secrets::logical::Operation;
use serde_json::{Value, json};

use crate::support::library::{self, SET};
use crate::support::storage::{CrashPoint, Failure};
use crate::support::{Answered, Mount};

/// No operation of a set of this size writes more often.
const MOST_WRITES: usize = 40;

/// What is interrupted.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create,
    Add,
    Remove,
    Delete,
    CheckOut,
    CheckIn,
    Renew,
    Revoke,
    Tick,
}

const STEPS: [Step; 9] = [
    Step::Create,
    Step::Add,
    Step::Remove,
    Step::Delete,
    Step::CheckOut,
    Step::CheckIn,
    Step::Renew,
    Step::Revoke,
    Step::Tick,
];

/// The mount just before the step, and what was lent.
struct Scene {
    mount: Mount,
    lent: Option<Answered>,
}

impl Scene {
    async fn before(step: Step) -> Self {
        let mount = match step {
            Step::Create => library::mount().await,
            _ => library::mount_with("a,b").await,
        };
        mount.seed("old", false);
        let lent = match step {
            Step::CheckIn | Step::Renew | Step::Revoke | Step::Tick => Some(library::check_out(&mount).await),
            _ => None,
        };
        if matches!(step, Step::Tick) {
            // Its lease is lost, and the tick comes to end it.
            mount.lose(lent.as_ref().unwrap().lease());
            mount.advance(Duration::from_secs(360));
            mount.tick().await.done();
            mount.advance(Duration::from_secs(3600));
        }
        Self { mount, lent }
    }

    /// Does the step; `death` ends the process in it. Answers whether it came to that.
    async fn run(&self, step: Step, death: CrashPoint) -> bool {
        let (operation, path, body) = match step {
            Step::Create => (
                Operation::Create,
                SET.to_owned(),
                json!({"project": "research", "service_account_names": "a,old"}),
            ),
            Step::Add => (Operation::Update, SET.to_owned(), json!({"service_account_names": "a,b,c,old"})),
            Step::Remove => (Operation::Update, SET.to_owned(), json!({"service_account_names": "b"})),
            Step::Delete => (Operation::Delete, SET.to_owned(), json!({})),
            Step::CheckOut => (Operation::Update, format!("{SET}/check-out"), json!({})),
            Step::CheckIn => (Operation::Update, format!("{SET}/check-in"), json!({})),
            Step::Renew => (Operation::Renew, format!("{SET}/check-out"), json!({})),
            Step::Revoke => (Operation::Revoke, format!("{SET}/check-out"), json!({})),
            Step::Tick => (Operation::Rollback, String::new(), json!({})),
        };
        let mut request = self.mount.request(operation, &path, body);
        if matches!(step, Step::Renew | Step::Revoke) {
            request.secret = self.lent.as_ref().map(|lent| lent.lease().secret(Duration::ZERO));
        }
        self.mount.killed(request, death).await
    }

    /// What must be true once the ticks have had their time.
    async fn check(self, step: Step, what: &str) {
        let still_lent = matches!(step, Step::Renew);
        if still_lent {
            let lent = self.lent.as_ref().unwrap();
            assert_eq!(library::status(&self.mount).await["a"], "checked-out", "{what}");
            assert!(self.mount.sim.state().is_live(&lent.text("api_key")), "{what}");
            library::check_in(&self.mount, lent).await.done();
        }
        library::settle(&self.mount).await;
        let set = self.mount.read(SET).await;
        let members = match &set.answer {
            Ok(Some(response)) => response.data["service_account_names"].clone(),
            _ => json!([]),
        };
        let mut expected: Vec<String> = serde_json::from_value(members.clone()).unwrap();
        assert_possible(step, &members, what);
        if !expected.contains(&"old".to_owned()) {
            expected.push("old".to_owned());
        }
        let mut there = library::names(&self.mount);
        there.sort_unstable();
        expected.sort_unstable();
        assert_eq!(there, expected, "{what}");
        assert_eq!(self.mount.sim.state().live_keys().count(), 0, "{what}: a free account has a key");
        for prefix in ["library-loan/", "due/", "wal/"] {
            assert_eq!(self.mount.stored(prefix), Vec::<String>::new(), "{what}");
        }
        assert_eq!(self.mount.stored("account-owner/").len(), members.as_array().unwrap().len(), "{what}");
        let is_stored = !members.as_array().unwrap().is_empty();
        assert_eq!(self.mount.stored("library-set/").len(), usize::from(is_stored), "{what}: a tombstone");
        self.works_again(&members).await;
        self.mount.finish().await;
    }

    /// Every account of the set can be lent.
    async fn works_again(&self, members: &Value) {
        for _ in members.as_array().unwrap() {
            let _ = library::check_out(&self.mount).await;
        }
    }
}

/// A write is done whole or not at all.
fn assert_possible(step: Step, members: &Value, what: &str) {
    let possible = match step {
        Step::Create => [json!([]), json!(["a", "old"])],
        Step::Add => [json!(["a", "b"]), json!(["a", "b", "c", "old"])],
        Step::Remove => [json!(["a", "b"]), json!(["b"])],
        Step::Delete => [json!(["a", "b"]), json!([])],
        _ => [json!(["a", "b"]), json!(["a", "b"])],
    };
    assert!(possible.contains(members), "{what}: {members}");
}

/// Kills each step at each write and answers how many writes it has.
async fn die_everywhere(step: Step, death: fn(usize) -> CrashPoint) -> usize {
    for number in 0..MOST_WRITES {
        let scene = Scene::before(step).await;
        let died = scene.run(step, death(number)).await;
        let what = format!("{step:?} killed at {:?}", death(number));
        if !died {
            return number;
        }
        scene.check(step, &what).await;
    }
    panic!("{step:?} does not end");
}

#[tokio::test]
async fn whatever_dies_before_a_write_is_finished_or_undone() {
    for step in STEPS {
        let writes = die_everywhere(step, CrashPoint::Before).await;
        println!("{step:?}: {writes} writes");
        assert!(writes > 0, "{step:?}");
    }
}

#[tokio::test]
async fn whatever_dies_after_a_write_is_finished_or_undone() {
    for step in STEPS {
        assert!(die_everywhere(step, CrashPoint::After).await > 0, "{step:?}");
    }
}

#[tokio::test]
async fn whatever_storage_does_and_calls_failed_is_finished_or_undone() {
    for step in STEPS {
        for number in 0..MOST_WRITES {
            let scene = Scene::before(step).await;
            scene.mount.watched.fail(Failure::Denied(number));
            let answered = !scene.run(step, CrashPoint::Before(usize::MAX)).await;
            assert!(answered);
            if !scene.mount.watched.take_failed() {
                assert!(number > 0, "{step:?}");
                break;
            }
            scene.check(step, &format!("{step:?} with write {number} done and called failed")).await;
        }
    }
}

#[tokio::test]
async fn whatever_storage_refuses_is_finished_or_undone() {
    let prefixes = ["library-set/", "library-loan/", "due/", "account-owner/", "wal/"];
    for step in STEPS {
        for (prefix, skip) in prefixes.into_iter().flat_map(|prefix| (0..2).map(move |skip| (prefix, skip))) {
            for deletion in [false, true] {
                let scene = Scene::before(step).await;
                let what = format!("{step:?} with {prefix} failing (deletion: {deletion}, twice: {skip})");
                for _ in 0..=skip {
                    if deletion {
                        scene.mount.storage.fail_delete(prefix);
                    } else {
                        scene.mount.storage.fail_put(prefix);
                    }
                }
                let answered = !scene.run(step, CrashPoint::Before(usize::MAX)).await;
                assert!(answered);
                scene.mount.storage.clear_faults();
                scene.check(step, &what).await;
            }
        }
    }
}
