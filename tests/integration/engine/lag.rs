//! OpenAI answers 404 for what was made a moment ago. Whatever is done with it meanwhile: no key lives on that no record
//! names, no account is lent twice, no success is told before the key is gone.

use std::time::Duration;

use openai_secrets::openai::{Client, ProjectId};
use serde_json::{Value, json};

use crate::simulator::{AdminKeyState, KeyState, Lag};
use crate::support::{Answered, Mount, library};

const MINUTE: Duration = Duration::from_secs(60);

/// One way in which OpenAI may lag, and whether the process is replaced by another one meanwhile.
#[derive(Clone, Copy, Debug)]
struct Case {
    lag: Lag,
    restart: bool,
}

impl Case {
    /// Short, as long as it was seen, and longer than any request waits; for all kinds of calls, or for one.
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for seconds in [1, 20, 45] {
            let all = Lag::of(Duration::from_secs(seconds));
            let none = Lag { get: false, post: false, delete: false, list: false, ..all };
            for lag in
                [all, Lag { delete: true, ..none }, Lag { post: true, ..none }, Lag { list: false, ..all }]
            {
                cases.extend([false, true].map(|restart| Self { lag, restart }));
            }
        }
        cases
    }

    /// Whether OpenAI finds everything within the time that a request waits.
    fn is_waited_for(self) -> bool {
        self.lag.most_ms <= 20_000
    }

    /// A mount before an OpenAI that lags like this from now on.
    async fn mount(self) -> Mount {
        let mount = Mount::start().await.configured().await.with_project().await;
        mount.sim.lag(Some(self.lag));
        mount
    }

    /// Perhaps the process dies, and another one goes on.
    async fn pass(self, mount: &Mount) {
        if self.restart {
            mount.restart().await;
        }
    }

    /// It succeeded where OpenAI finds everything in time; otherwise it may say that it did not.
    fn check(self, answered: &Answered) {
        if self.is_waited_for() {
            answered.done();
        }
    }
}

/// Ticks come until all that was left half way is over.
async fn settle(mount: &Mount) {
    for _ in 0..4 {
        mount.advance(MINUTE * 16);
        let _failed = mount.tick().await;
    }
    mount.tick_immediately().await.done();
}

/// The live keys of all accounts.
fn live(mount: &Mount) -> Vec<KeyState> {
    mount.sim.state().live_keys().cloned().collect()
}

fn live_admin_keys(mount: &Mount) -> Vec<AdminKeyState> {
    mount.sim.state().admin_keys.into_iter().filter(|key| key.live).collect()
}

fn somebody(mount: &Mount) -> (Client, ProjectId) {
    library::admin(mount)
}

/// An account that somebody else makes now, as Terraform does right before it writes what names it.
async fn account_by_others(mount: &Mount, name: &str) -> String {
    let (client, project) = somebody(mount);
    let id = client.create_account_only(&project, name).await.unwrap().id;
    mount.mark_foreign(id.as_str());
    id.to_string()
}

#[tokio::test]
async fn a_credential_is_revoked_a_moment_after_it_was_read() {
    for with_account in [true, false] {
        for case in Case::all() {
            let mount = Mount::start().await.configured().await.with_project().await;
            let mut role = json!({"ttl": "1h"});
            if !with_account {
                role["service_account_id"] = mount.seed("there", false).id.into();
            }
            let mount = mount.with_role(role).await;
            mount.sim.lag(Some(case.lag));
            let lease = mount.read("creds/app").await.lease().clone();
            case.pass(&mount).await;
            // The mount under test checks that the key is dead where this says so.
            let revoked = mount.revoke(&lease).await;
            case.check(&revoked);
            if revoked.answer.is_err() {
                assert_eq!(mount.stored("ledger/").len(), 1, "{case:?}");
            }
            settle(&mount).await;
            assert!(live(&mount).is_empty(), "{case:?}");
            assert_eq!(mount.sim.state().accounts.len(), usize::from(!with_account), "{case:?}");
            assert_eq!(mount.stored("ledger/"), Vec::<String>::new(), "{case:?}");
        }
    }
}

#[tokio::test]
async fn a_404_of_a_new_credential_proves_nothing_under_a_clock_that_is_ahead() {
    let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
    let all = Lag::of(Duration::from_secs(45));
    mount.sim.lag(Some(Lag { get: false, post: false, list: false, ..all }));
    mount.put_clock_ahead(MINUTE * 2);
    let lease = mount.read("creds/app").await.lease().clone();
    mount.restart().await;
    // From now on the process knows OpenAI's time.
    mount.read("config/check").await.done();
    // The mount under test checks that the key is dead where this says so.
    mount.revoke(&lease).await.error();
    mount.put_clock_back(MINUTE * 2);
    settle(&mount).await;
    assert!(live(&mount).is_empty());
    mount.finish().await;
}

/// The first call of a process is a deletion that OpenAI answers with 404. Nothing else tells OpenAI's time.
#[tokio::test]
async fn the_date_of_a_404_tells_that_the_object_is_new() {
    let all = Lag::of(Duration::from_secs(45));
    for (is_ahead, is_static) in [(false, false), (false, true), (true, false), (true, true)] {
        let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
        let role = json!({"project": "research", "service_account_id": mount.seed("there", false).id});
        mount.sim.lag(Some(Lag { get: false, post: false, list: false, ..all }));
        let lease = if is_static {
            mount.write("static-roles/app", role).await.done();
            None
        } else {
            Some(mount.read("creds/app").await.lease().clone())
        };
        if is_ahead {
            mount.put_clock_ahead(MINUTE * 10);
        } else {
            mount.put_clock_back(MINUTE * 10);
        }
        mount.restart().await;
        // The mount under test checks that the key is dead where this says so.
        let ended = match &lease {
            Some(lease) => mount.revoke(lease).await,
            None => mount.delete("static-roles/app").await,
        };
        let said = ended.error().message();
        assert!(said.contains("OpenAI may not find it yet"), "{said}");
        settle(&mount).await;
        assert!(live(&mount).is_empty(), "{is_ahead} {is_static}");
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_credential_is_revoked_by_the_queue_a_moment_after_it_was_read() {
    for case in Case::all() {
        let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
        mount.write("config", json!({"revocation_mode": "queue"})).await.done();
        mount.sim.lag(Some(case.lag));
        let lease = mount.read("creds/app").await.lease().clone();
        case.pass(&mount).await;
        mount.revoke(&lease).await.done();
        // Waits for the pass that the revocation began: a tick would leave all to that pass.
        mount.write("revocations/retry", json!({})).await.done();
        settle(&mount).await;
        assert_eq!(mount.sim.state().accounts.len(), 0, "{case:?}");
    }
}

#[tokio::test]
async fn a_key_is_narrowed_before_it_is_handed_out_or_its_account_goes() {
    for case in Case::all() {
        let mount = Mount::start().await.configured().await.with_project().await;
        let mount = mount.with_role(json!({"scopes": ["api.model.read"]})).await;
        mount.sim.lag(Some(case.lag));
        let read = mount.read("creds/app").await;
        case.check(&read);
        for key in live(&mount).iter().filter(|_| read.answer.is_ok()) {
            assert_eq!(key.scopes, ["api.model.read"], "{case:?}");
        }
        case.pass(&mount).await;
        if let Some(lease) = &read.lease {
            case.check(&mount.revoke(lease).await);
        }
        settle(&mount).await;
        assert_eq!(mount.sim.state().accounts.len(), 0, "{case:?}");
    }
}

#[tokio::test]
async fn a_static_key_is_rotated_twice_a_moment_after_it_was_made_and_then_deleted() {
    for method in ["key", "account"] {
        for grace in ["0s", "10m"] {
            for case in Case::all() {
                let mount = case.mount().await;
                let account = mount.seed("app", false);
                let role = json!({"project": "research", "service_account_id": account.id,
                    "rotation_method": method, "rotation_period": 0});
                mount.write("static-roles/app", role).await.done();
                for _ in 0..2 {
                    case.pass(&mount).await;
                    let rotation =
                        mount.write("static-creds/app/rotate", json!({"grace_period": grace})).await;
                    case.check(&rotation);
                }
                let present = mount.read("static-creds/app").await.text("api_key");
                assert!(mount.sim.state().is_live(&present), "{method} {case:?}");
                settle(&mount).await;
                let left: Vec<String> = live(&mount).into_iter().map(|key| key.value).collect();
                assert_eq!(left, [present], "{method} {grace} {case:?}");
                mount.delete("static-roles/app").await.done();
                assert!(live(&mount).is_empty(), "{method} {grace} {case:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_static_role_is_deleted_a_moment_after_its_key_was_made() {
    for method in ["key", "account"] {
        for case in Case::all() {
            let mount = case.mount().await;
            let account = mount.seed("app", false);
            let role = json!({"project": "research", "service_account_id": account.id, "rotation_method": method,
                "rotation_period": 0});
            mount.write("static-roles/app", role).await.done();
            if method == "account" {
                mount.write("static-creds/app/rotate", json!({})).await.done();
            }
            case.pass(&mount).await;
            let deleted = mount.delete("static-roles/app").await;
            case.check(&deleted);
            if deleted.answer.is_ok() {
                assert!(live(&mount).is_empty(), "{method} {case:?}: deleted, they say");
            }
            settle(&mount).await;
            assert!(live(&mount).is_empty(), "{method} {case:?}");
            assert_eq!(mount.sim.state().accounts.len(), 1, "{method} {case:?}");
            assert_eq!(mount.stored("static-role/"), Vec::<String>::new(), "{method} {case:?}");
        }
    }
}

#[tokio::test]
async fn an_account_is_checked_in_a_moment_after_it_was_checked_out_and_lent_again_only_without_a_key() {
    for by_lease in [false, true] {
        for case in Case::all() {
            let mount = library::mount_with("a").await;
            mount.advance(MINUTE * 2);
            mount.sim.lag(Some(case.lag));
            for _ in 0..2 {
                let lent = mount.write("library-sets/pool/check-out", json!({})).await;
                if lent.answer.is_err() {
                    assert!(!case.is_waited_for(), "{case:?}");
                    continue;
                }
                assert_eq!(live(&mount).len(), 1, "{case:?}: lent beside an older key");
                case.pass(&mount).await;
                let returned = if by_lease {
                    mount.revoke(lent.lease()).await
                } else {
                    library::check_in(&mount, &lent).await
                };
                case.check(&returned);
                if returned.answer.is_ok() {
                    assert!(live(&mount).is_empty(), "{case:?}: returned, they say");
                }
                library::assert_free_have_no_key(&mount).await;
            }
            settle(&mount).await;
            assert_eq!(library::status(&mount).await, json!({"a": "available"}), "{case:?}");
            assert!(live(&mount).is_empty(), "{case:?}");
        }
    }
}

#[tokio::test]
async fn a_set_is_used_changed_and_deleted_a_moment_after_its_accounts_were_made() {
    for case in Case::all() {
        let mount = case.mount().await;
        let write = async |names: &str| {
            let body: Value = json!({"project": "research", "service_account_names": names});
            let written = mount.write("library-sets/pool", body).await;
            case.check(&written);
            written
        };
        let first = write("a,b").await;
        case.pass(&mount).await;
        if first.answer.is_ok() {
            let lent = mount.write("library-sets/pool/check-out", json!({})).await;
            case.check(&lent);
            if lent.answer.is_ok() {
                case.check(&library::check_in(&mount, &lent).await);
            }
        }
        let _changed = write("b,c").await;
        case.pass(&mount).await;
        settle(&mount).await;
        assert!(live(&mount).is_empty(), "{case:?}");
        if !case.is_waited_for() {
            // No new account gets its name in time.
            mount.sim.lag(None);
        }
        write("b,c").await.done();
        settle(&mount).await;
        let mut names = library::names(&mount);
        names.sort_unstable();
        assert_eq!(names, ["b", "c"], "{case:?}");
        let _added = write("b,c,d").await;
        case.pass(&mount).await;
        mount.delete("library-sets/pool").await.done();
        settle(&mount).await;
        assert_eq!(library::names(&mount), Vec::<String>::new(), "{case:?}");
        assert_eq!(mount.stored("library-set/"), Vec::<String>::new(), "{case:?}");
        assert_eq!(mount.stored("account-owner/"), Vec::<String>::new(), "{case:?}");
    }
}

#[tokio::test]
async fn the_admin_key_is_rotated_three_times_in_a_row() {
    for case in Case::all() {
        let mount = case.mount().await;
        for _ in 0..3 {
            case.check(&mount.write("config/rotate", json!({})).await);
            case.pass(&mount).await;
        }
        settle(&mount).await;
        let left: Vec<String> = live_admin_keys(&mount).into_iter().map(|key| key.value).collect();
        let config: Value = serde_json::from_str(&mount.storage_text("config")).unwrap();
        assert_eq!(left, [config["admin_api_key"].as_str().unwrap()], "{case:?}");
        mount.read("config/check").await.answer.ok();
    }
}

#[tokio::test]
async fn an_operators_key_takes_the_place_of_one_that_was_made_a_moment_ago() {
    for case in Case::all() {
        let mount = case.mount().await;
        let by_hand = somebody(&mount).0.create_admin_key("by hand", None).await.unwrap();
        case.check(&mount.write("config/rotate", json!({})).await);
        case.pass(&mount).await;
        let body =
            json!({"new_admin_api_key": by_hand.value.expose(), "new_admin_api_key_id": by_hand.id.as_str()});
        let replaced = mount.write("config/rotate-admin-key", body).await;
        case.check(&replaced);
        settle(&mount).await;
        let mut left: Vec<String> = live_admin_keys(&mount).into_iter().map(|key| key.value).collect();
        if replaced.answer.is_err() {
            left.retain(|key| *key != by_hand.value.expose());
        }
        let config: Value = serde_json::from_str(&mount.storage_text("config")).unwrap();
        assert_eq!(left, [config["admin_api_key"].as_str().unwrap()], "{case:?}");
    }
}

#[tokio::test]
async fn the_configuration_goes_only_when_the_admin_key_that_was_just_replaced_is_gone() {
    for case in Case::all() {
        let mount = case.mount().await;
        for _ in 0..2 {
            case.check(&mount.write("config/rotate", json!({})).await);
        }
        case.pass(&mount).await;
        let deleted = mount.delete("config").await;
        let left = live_admin_keys(&mount).len();
        assert!(deleted.answer.is_err() || left == 1, "{case:?}: {left} admin keys, and no record");
        if deleted.answer.is_err() {
            settle(&mount).await;
            mount.delete("config").await.done();
        }
        assert_eq!(live_admin_keys(&mount).len(), 1, "{case:?}");
    }
}

#[tokio::test]
async fn what_terraform_made_a_moment_ago_is_waited_for() {
    for case in Case::all().into_iter().filter(|case| case.is_waited_for()) {
        let mount = case.mount().await;
        let (one, other) = (account_by_others(&mount, "one").await, account_by_others(&mount, "other").await);
        let role = json!({"project": "research", "service_account_id": one, "scopes": ["api.model.read"]});
        mount.write("roles/app", role).await.done();
        mount.revoke(mount.read("creds/app").await.lease()).await.done();
        let other = json!({"project": "research", "service_account_id": other, "rotation_period": 0});
        mount.write("static-roles/app", other).await.done();
        case.pass(&mount).await;
        mount.write("static-creds/app/rotate", json!({})).await.done();
        mount.delete("static-roles/app").await.done();
        assert!(live(&mount).is_empty(), "{case:?}");
    }
}

#[tokio::test]
async fn a_mistyped_account_is_refused_in_the_end() {
    let mount = Case { lag: Lag::default(), restart: false }.mount().await;
    let body = json!({"project": "research", "service_account_id": "svc_acct_none"});
    for path in ["roles/app", "static-roles/app"] {
        let begun = mount.now();
        mount.write(path, body.clone()).await.refused("service_account_id must name an account of project");
        assert!((mount.now() - begun).num_seconds() >= 20, "it may have been made a moment ago");
    }
    mount.write("project/none", json!({"project_id": "proj_none"})).await.refused("does not exist at OpenAI");
}

#[tokio::test]
async fn a_mount_that_goes_away_leaves_nothing_that_was_made_a_moment_ago() {
    for case in Case::all().into_iter().filter(|case| case.is_waited_for()) {
        let mount = Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
        mount.sim.lag(Some(case.lag));
        let lease = mount.read("creds/app").await.lease().clone();
        case.pass(&mount).await;
        mount.host.set_tainted(true);
        mount.revoke(&lease).await.done();
        mount.tick_now().await.done();
        assert_eq!(mount.sim.state().accounts.len(), 0, "{case:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_creation_is_made_good_when_openai_lists_what_was_made() {
    use crate::simulator::{Action, Fault, endpoint};
    for immediate in [false, true] {
        for case in Case::all().into_iter().filter(|case| case.is_waited_for()) {
            let mount =
                Mount::start().await.configured().await.with_project().await.with_role(json!({})).await;
            mount.sim.lag(Some(case.lag));
            for call in [endpoint::CREATE_ACCOUNT, endpoint::CREATE_ADMIN_KEY] {
                mount.sim.fault(Fault::on(call, Action::Drop).after_the_work().times(1));
            }
            mount.read("creds/app").await.error();
            mount.write("config/rotate", json!({})).await.error();
            case.pass(&mount).await;
            if immediate {
                mount.host.set_tainted(true);
                mount.tick_now().await.done();
            } else {
                settle(&mount).await;
            }
            assert_eq!(mount.sim.state().accounts.len(), 0, "{immediate} {case:?}");
            // On its last tick a process ends only what it asked for itself.
            if !(immediate && case.restart) {
                assert_eq!(live_admin_keys(&mount).len(), 1, "{immediate} {case:?}");
            }
        }
    }
}

/// Writes the issuer and a role with access tokens.
async fn write_federated(case: Case, mount: &Mount) {
    let issuer = json!({"token_endpoint": mount.sim.token_url()});
    case.check(&mount.write("config/federation", issuer).await);
    case.pass(mount).await;
    let role = json!({"project": "research", "credential_type": "access_token"});
    case.check(&mount.write("roles/agent", role).await);
    case.pass(mount).await;
}

#[tokio::test]
async fn a_federated_role_and_its_provider_go_a_moment_after_they_were_made() {
    for case in Case::all() {
        let mount = case.mount().await;
        write_federated(case, &mount).await;
        let deleted = mount.delete("roles/agent").await;
        case.check(&deleted);
        case.pass(&mount).await;
        // The role may have left something to delete.
        let _refused = mount.delete("config/federation").await;
        settle(&mount).await;
        mount.delete("config/federation").await.done();
        let state = mount.sim.state();
        assert_eq!((state.rules.len(), state.accounts.len(), state.providers.len()), (0, 0, 0), "{case:?}");
        for prefix in ["federat", "account-owner/", "due/"] {
            assert_eq!(mount.stored(prefix), Vec::<String>::new(), "{case:?}");
        }
        mount.finish().await;
    }
}

#[tokio::test]
async fn a_federated_role_is_changed_and_its_key_rotated_a_moment_after_they_were_made() {
    for case in Case::all() {
        let mount = case.mount().await;
        write_federated(case, &mount).await;
        let role =
            json!({"project": "research", "credential_type": "access_token", "scopes": "api.model.read"});
        case.check(&mount.write("roles/agent", role.clone()).await);
        case.pass(&mount).await;
        case.check(&mount.write("config/federation/rotate", json!({})).await);
        case.pass(&mount).await;
        settle(&mount).await;
        if !case.is_waited_for() {
            // OpenAI did not find the new provider in time.
            mount.sim.lag(None);
        }
        mount.write("roles/agent", role).await.done();
        let state = mount.sim.state();
        assert_eq!((state.rules.len(), state.accounts.len(), state.providers.len()), (1, 1, 1), "{case:?}");
        let granted = mount.read("creds/agent").await.json();
        assert_eq!(granted["scope"], "api.model.read", "{case:?}");
        mount.finish().await;
    }
}
