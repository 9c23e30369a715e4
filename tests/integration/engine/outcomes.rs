//! Creations whose outcome is unknown or half: the answer is no reason to repeat them, and nothing is left.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::simulator::{Action, Fault, Limit, Per, Retry, Simulator, When, endpoint};
use crate::support::{Answered, Mount};

const PATH: &str = "creds/app";

/// What a role makes, by which call, and what takes it back.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Account,
    Key,
}

impl Kind {
    const BOTH: [Self; 2] = [Self::Account, Self::Key];

    async fn mount(self) -> Mount {
        let mount = Mount::start().await.configured().await.with_project().await;
        match self {
            Self::Account => mount.with_role(json!({})).await,
            Self::Key => {
                let account = mount.seed("worker", false).id;
                mount.with_role(json!({"service_account_id": account})).await
            }
        }
    }

    fn creation(self) -> &'static str {
        match self {
            Self::Account => endpoint::CREATE_ACCOUNT,
            Self::Key => endpoint::CREATE_KEY,
        }
    }

    fn deletion(self) -> &'static str {
        match self {
            Self::Account => endpoint::DELETE_ACCOUNT,
            Self::Key => endpoint::DELETE_KEY,
        }
    }

    fn list(self) -> &'static str {
        match self {
            Self::Account => endpoint::LIST_ACCOUNTS,
            Self::Key => endpoint::LIST_KEYS,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Account => "service account creation failed: ",
            Self::Key => "API key creation failed: ",
        }
    }
}

/// How many keys of service accounts there are at OpenAI.
fn keys(mount: &Mount) -> usize {
    mount.sim.state().accounts.iter().map(|account| account.keys.len()).sum()
}

/// Whether Vault's own client repeats a request that got this answer.
fn invites_to_repeat(answered: &Answered) -> bool {
    matches!(answered.status(), 429 | 500..)
}

fn all_actions() -> Vec<Action> {
    let redirect = Action::Redirect { location: "https://example.org/".to_owned() };
    let mut actions = vec![
        Action::Drop,
        Action::Cut,
        Action::Html,
        Action::Empty,
        Action::Huge,
        Action::Truncated,
        Action::WrongTypes,
        redirect,
        Action::status_with(200, json!({"id": "svc_acct_1"})),
        Action::status_with(201, json!([])),
        Action::status_with(502, "<html>Bad gateway</html>"),
    ];
    actions.extend([400, 401, 403, 404, 408, 409, 500, 503, 504].map(Action::status));
    actions
}

/// One creation goes wrong in this way; everything else works.
async fn goes_wrong(kind: Kind, action: Action, when: When) {
    let what = format!("{kind:?} {action:?} {when:?}");
    let mount = kind.mount().await.without_lag();
    // The role's account is no longer new, or a 404 for it would be repeated.
    mount.advance(Duration::from_secs(120));
    mount.sim.fault(Fault { when, ..Fault::on(kind.creation(), action).times(1) });
    let answered = mount.read(PATH).await;
    let may_stand = keys(&mount) > 0 || mount.entries_left().await > 0;
    assert!(answered.answer.is_err(), "{what}");
    answered.failed(answered.error().kind(), kind.sentence());
    assert!(
        !(may_stand && invites_to_repeat(&answered)),
        "{what}: {} {}",
        answered.status(),
        answered.error()
    );
    // What was found was undone at once.
    assert_eq!(keys(&mount), 0, "{what}");
    assert_eq!(mount.stored("ledger/"), Vec::<String>::new(), "{what}");
    mount.tick_now().await.done();
    assert_eq!(mount.stored("wal/"), Vec::<String>::new(), "{what}");
    mount.finish().await;
}

#[tokio::test]
async fn whatever_answers_a_creation_nothing_is_left_and_nobody_is_asked_to_repeat_it() {
    for kind in Kind::BOTH {
        for action in all_actions() {
            goes_wrong(kind, action.clone(), When::Before).await;
            // A refusal that OpenAI means is one that was not carried out.
            let meant = matches!(action, Action::Status { status: 400..=407 | 409..=499, .. });
            if !meant {
                goes_wrong(kind, action, When::After).await;
            }
        }
    }
}

#[tokio::test]
async fn a_creation_that_cannot_be_found_yet_is_left_to_the_sweep_and_said_so() {
    for kind in Kind::BOTH {
        let mount = kind.mount().await;
        mount.sim.fault(Fault::on(kind.creation(), Action::Drop).times(1));
        let answered = mount.read(PATH).await;
        answered.refused("removed within 10 minutes");
        assert_eq!(mount.stored("wal/").len(), 1);
        // Too young for a sweep: the request might still run.
        mount.tick().await.done();
        assert_eq!(mount.stored("wal/").len(), 1);
        mount.finish().await;
    }
}

#[tokio::test]
async fn what_cannot_be_undone_at_once_is_undone_by_the_sweep_even_after_a_restart() {
    for kind in Kind::BOTH {
        for broken in [kind.list(), kind.deletion()] {
            let mount = kind.mount().await;
            mount.sim.fault(Fault::on(kind.creation(), Action::Drop).times(1).after_the_work());
            mount.sim.fault(Fault::on(broken, Action::Html));
            let answered = mount.read(PATH).await;
            answered.refused("removed within 10 minutes, or when OpenAI is back");
            assert_eq!((keys(&mount), mount.stored("wal/").len()), (1, 1));
            assert!(mount.tick_now().await.answer.is_err(), "OpenAI still fails: the entry stays");
            assert_eq!((keys(&mount), mount.stored("wal/").len()), (1, 1));
            mount.restart().await;
            mount.sim.clear_faults();
            mount.tick_now().await.done();
            assert_eq!((keys(&mount), mount.stored("wal/").len()), (0, 0));
            mount.finish().await;
        }
    }
}

#[tokio::test]
async fn the_sweep_finds_a_name_among_many() {
    let mount = Kind::Account.mount().await.without_lag();
    for n in 0..250 {
        mount.seed(&format!("other-{n}"), false);
    }
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Cut).times(1));
    mount.read(PATH).await.error();
    assert_eq!(mount.sim.state().accounts.len(), 250);
    mount.finish().await;
}

#[tokio::test]
async fn the_sweep_leaves_what_it_did_not_make() {
    let mount = Kind::Account.mount().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1));
    mount.read(PATH).await.error();
    let made = mount.read(PATH).await;
    let like = format!("{}x", made.text("service_account"));
    mount.seed(&like, true);
    mount.tick_now().await.done();
    assert_eq!(mount.sim.state().accounts.len(), 2);
    assert!(mount.sim.state().is_live(&made.text("api_key")));
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_sweep_under_another_organization_proves_nothing() {
    let mount = Kind::Account.mount().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html).times(1));
    mount.read(PATH).await.refused("removed within 10 minutes");
    let organization = json!({"organization_id": "org-other", "verify_connection": false});
    mount.write("config", organization).await.done();
    mount.tick_now().await.done();
    assert_eq!((keys(&mount), mount.stored("wal/").len()), (1, 1));
    mount.write("config", mount.config()).await.done();
    mount.tick_now().await.done();
    assert_eq!(keys(&mount), 0);
    mount.finish().await;
}

#[tokio::test]
async fn a_project_that_another_organization_does_not_have_is_not_gone() {
    let mount = Kind::Account.mount().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html).times(1));
    mount.read(PATH).await.refused("removed within 10 minutes");
    let other = Simulator::start().await;
    let elsewhere = json!({
        "admin_api_key": other.admin_key(), "organization_id": other.organization(), "api_endpoint": other.url(),
    });
    mount.write("config", elsewhere).await.done();
    // Its name is looked up in the project, which that organization does not have.
    mount.read(PATH).await.error();
    mount.tick_now().await.done();
    mount.write("config", mount.config()).await.done();
    mount.tick().await.done();
    assert_eq!(keys(&mount), 0);
    mount.finish().await;
}

#[tokio::test]
async fn the_last_tick_of_a_mount_undoes_what_is_young_too() {
    let mount = Kind::Account.mount().await;
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, Action::Drop).times(1).after_the_work());
    mount.sim.fault(Fault::on(endpoint::LIST_ACCOUNTS, Action::Html).times(1));
    mount.read(PATH).await.refused("removed within 10 minutes");
    mount.tick().await.done();
    assert_eq!(mount.sim.state().accounts.len(), 1);
    mount.host.set_tainted(true);
    mount.tick().await.done();
    assert!(mount.sim.state().accounts.is_empty());
    mount.finish().await;
}

#[tokio::test]
async fn a_failed_narrowing_takes_the_account_back_or_leaves_it_to_the_sweep() {
    for action in [Action::Html, Action::WrongTypes, Action::status(400), Action::status(403)] {
        for (takes_back, left) in [(true, 0), (false, 1)] {
            let mount = Kind::Account.mount().await.without_lag();
            mount.write("roles/app", json!({"scopes": ["api.model.read"]})).await.done();
            mount.sim.fault(Fault::on(endpoint::UPDATE_KEY, action.clone()));
            if !takes_back {
                mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html).times(2));
            }
            let answered = mount.read(PATH).await;
            answered.failed(answered.error().kind(), "API key creation failed: ");
            assert_eq!((keys(&mount), mount.entries_left().await), (left, left), "{action:?}");
            assert!(left == 0 || !invites_to_repeat(&answered), "{action:?}: {}", answered.status());
            mount.sim.clear_faults();
            mount.finish().await;
        }
    }
}

#[tokio::test]
async fn a_limit_is_waited_out_as_openai_says() {
    for retry in [Retry::Seconds, Retry::Milliseconds, Retry::Date, Retry::None] {
        let mount = Kind::Account.mount().await;
        mount.sim.limit(Limit::on(endpoint::CREATE_ACCOUNT, 1, Per::Second).telling(retry));
        let made = [mount.read(PATH).await, mount.read(PATH).await];
        for made in &made {
            mount.revoke(made.lease()).await.done();
        }
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_limit_that_lasts_too_long_is_told_with_how_long_before_anything_is_made() {
    let mount = Kind::Account.mount().await;
    let headers = BTreeMap::from([("Retry-After".to_owned(), "300".to_owned())]);
    let action = Action::Status { status: 429, headers, body: None };
    mount.sim.fault(Fault::on(endpoint::CREATE_ACCOUNT, action));
    for _ in 0..2 {
        let answered = mount.read(PATH).await;
        assert_eq!(answered.status(), 429, "{answered:?}");
        answered.failed(answered.error().kind(), "service account creation failed: ");
        answered.failed(answered.error().kind(), "try again in ");
        assert_eq!((keys(&mount), mount.entries_left().await), (0, 0));
    }
    mount.finish().await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_nothing_and_is_not_waited_for() {
    for kind in Kind::BOTH {
        let mount = kind.mount().await;
        mount.sim.fault(Fault::on(kind.creation(), Action::delay(Duration::from_millis(100))).times(1));
        let request = mount.request(openai_secrets::logical::Operation::Read, PATH, json!({}));
        let hang_up = async {
            while mount.sim.faults_left() > 0 {
                tokio::task::yield_now().await;
            }
            request.cancelled.cancel();
        };
        let (answered, ()) = tokio::join!(mount.ask(request.clone()), hang_up);
        assert!(answered.lease.is_none());
        answered.failed(openai_secrets::logical::Kind::Internal, "the caller hung up");
        assert_eq!((keys(&mount), mount.stored("ledger/").len()), (0, 0));
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_while_openai_fails_leaves_it_to_the_next_ticks_not_to_the_leases_end() {
    let mount = Kind::Account.mount().await;
    let request = mount.request(openai_secrets::logical::Operation::Read, PATH, json!({"ttl": "24h"}));
    request.cancelled.cancel();
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html));
    mount.ask(request).await.error();
    assert_eq!(keys(&mount), 1);
    mount.sim.clear_faults();
    mount.advance(Duration::from_secs(600));
    mount.tick().await.done();
    assert_eq!((keys(&mount), mount.stored("ledger/").len()), (0, 0));
    mount.finish().await;
}

#[tokio::test]
async fn a_lease_that_vault_could_not_store_is_revoked_for_sure() {
    let mount = Kind::Account.mount().await;
    let made = mount.read_with(PATH, json!({"ttl": "24h"})).await;
    // Vault revokes it at once, without an id, and does not ask again.
    let mut request = mount.request(openai_secrets::logical::Operation::Revoke, PATH, json!({}));
    let mut secret = made.lease().secret(Duration::ZERO);
    secret.lease_id = String::new();
    request.secret = Some(secret);
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::Html).times(1));
    assert!(mount.ask(request).await.answer.is_err());
    mount.lose(made.lease());
    mount.advance(Duration::from_secs(600));
    mount.tick().await.done();
    assert_eq!(keys(&mount), 0);
    mount.finish().await;
}
