//! What roles, static roles and library sets refuse or take alike: projects, accounts, times.

use std::time::Duration;

use openai_secrets::logical::{Entry, Storage as _};
use serde_json::{Value, json};

use crate::simulator::{Action, Fault, Policy, endpoint};
use crate::support::mount::PROJECT;
use crate::support::{Mount, windows};

async fn mount() -> Mount {
    Mount::start().await.configured().await.with_project().await
}

/// The three that name a project, each with what else it needs to be written.
fn nouns(mount: &Mount) -> [(&'static str, Value); 3] {
    let account = mount.seed("of-the-static-role", false).id;
    [
        ("roles/app", json!({})),
        ("static-roles/app", json!({"service_account_id": account})),
        ("library-sets/app", json!({"service_account_names": "a"})),
    ]
}

fn with(base: &Value, more: Value) -> Value {
    let mut body = base.clone();
    let Value::Object(more) = more else { panic!("an object") };
    body.as_object_mut().unwrap().extend(more);
    body
}

async fn project_of(mount: &Mount, path: &str) -> (String, String) {
    let read = mount.read(path).await;
    (read.text("project"), read.text("project_id"))
}

#[tokio::test]
async fn project_and_project_id_follow_one_rule_for_all_three() {
    let mount = mount().await;
    let id = mount.sim.project().to_owned();
    mount.sim.add_project("proj_other");
    for (path, base) in nouns(&mount) {
        for none in [json!({}), json!({"project": ""}), json!({"project_id": ""})] {
            let says = "project (a name) or project_id (OpenAI's id) is required";
            mount.write(path, with(&base, none)).await.refused(says);
        }
        let differ = json!({"project": PROJECT, "project_id": "proj_other"});
        mount.write(path, with(&base, differ)).await.refused("project and project_id must agree");
        let unknown = json!({"project": "nowhere", "project_id": id});
        mount.write(path, with(&base, unknown)).await.refused("project not found: nowhere");

        // Together, if they agree; and that is read back.
        mount.write(path, with(&base, json!({"project": PROJECT, "project_id": id}))).await.done();
        let both = (PROJECT.to_owned(), id.clone());
        assert_eq!(project_of(&mount, path).await, both, "{path}");
        mount.write(path, with(&base, json!({"project": PROJECT, "project_id": id}))).await.done();
        assert_eq!(project_of(&mount, path).await, both, "{path}");

        // One alone takes the other's place, by a write and by a patch.
        mount.write(path, json!({"project_id": id})).await.done();
        assert_eq!(project_of(&mount, path).await, (String::new(), id.clone()), "{path}");
        mount.patch(path, json!({"project": PROJECT})).await.done();
        assert_eq!(project_of(&mount, path).await, (PROJECT.to_owned(), String::new()), "{path}");
        mount.patch(path, json!({"project_id": id})).await.done();
        assert_eq!(project_of(&mount, path).await, (String::new(), id.clone()), "{path}");
        mount.write(path, json!({"project": PROJECT})).await.done();
        assert_eq!(project_of(&mount, path).await, (PROJECT.to_owned(), String::new()), "{path}");

        // Nothing but emptiness takes a place.
        mount.write(path, json!({"project": ""})).await.refused("is required");
        mount.write(path, json!({"project_id": ""})).await.done();
        assert_eq!(project_of(&mount, path).await, (PROJECT.to_owned(), String::new()), "{path}");
        mount.delete(path).await.done();
    }
}

#[tokio::test]
async fn a_name_that_points_elsewhere_later_breaks_no_other_write() {
    let mount = mount().await;
    let id = mount.sim.project().to_owned();
    mount.sim.add_project("proj_other");
    let paths = nouns(&mount);
    for (path, base) in &paths {
        mount.write(path, with(base, json!({"project": PROJECT, "project_id": id}))).await.done();
    }
    mount.write(&format!("project/{PROJECT}"), json!({"project_id": "proj_other"})).await.done();
    for (path, _) in &paths {
        mount.write(path, json!({"ttl": 120})).await.done();
        mount.write(path, json!({"project": PROJECT, "project_id": id, "ttl": 60})).await.done();
        mount.delete(path).await.done();
    }
}

#[tokio::test]
async fn a_role_takes_only_a_project_id_in_use_at_openai_and_asks_once() {
    let mount = mount().await;
    let refused = mount.write("roles/app", json!({"project_id": "proj_nowhere"})).await;
    refused.refused("project not found: project_id proj_nowhere");
    mount.sim.add_project("proj_old");
    mount.sim.archive_project("proj_old");
    mount.write("roles/app", json!({"project_id": "proj_old"})).await.refused("is archived at OpenAI");
    mount.read("roles/app").await.nothing();
    mount.sim.add_project("proj_new");
    mount.write("roles/app", json!({"project_id": "proj_new"})).await.done();
    let calls = mount.sim.calls(endpoint::READ_PROJECT);
    mount.write("roles/app", json!({"project_id": "proj_new", "ttl": 60})).await.done();
    mount.write("roles/app", json!({"ttl": 70})).await.done();
    assert_eq!(mount.sim.calls(endpoint::READ_PROJECT), calls);
    mount.write("roles/app", json!({"project_id": "proj_old"})).await.refused("is archived at OpenAI");
}

#[tokio::test]
async fn the_admin_keys_own_account_is_refused_by_all_three() {
    let mount = mount().await;
    let account = mount.seed("automation", true);
    mount.sim.own_admin_keys(&account.id);
    for (path, body) in [
        ("roles/app", json!({"service_account_id": account.id})),
        ("static-roles/app", json!({"service_account_id": account.id})),
        ("library-sets/app", json!({"service_account_names": "automation"})),
    ] {
        let body = with(&body, json!({"project": PROJECT}));
        mount.write(path, body).await.refused("it is the account that owns the admin key");
        mount.read(path).await.nothing();
    }
    // An existing role is no way around it.
    mount.write("roles/app", json!({"project": PROJECT})).await.done();
    let moved = mount.patch("roles/app", json!({"service_account_id": account.id})).await;
    moved.refused("it is the account that owns the admin key");
}

#[tokio::test]
async fn a_role_makes_no_keys_on_accounts_that_are_lent_or_that_go_with_their_owner() {
    let mount = mount().await;
    mount.seed("adopted", false);
    let set = json!({"project": PROJECT, "service_account_names": "adopted,made"});
    mount.write("library-sets/pool", set).await.done();
    let id = |name: &str| {
        let accounts = mount.sim.state().accounts;
        accounts.into_iter().find(|account| account.name == name).expect("it is there").id
    };
    for name in ["adopted", "made"] {
        let body = json!({"project": PROJECT, "service_account_id": id(name)});
        mount.write("roles/app", body).await.refused("already belongs to library set pool");
    }
    let account = mount.seed("worker", false).id;
    let body = json!({"project": PROJECT, "service_account_id": account, "rotation_method": "account"});
    mount.write("static-roles/app", body).await.done();
    mount.write("static-creds/app/rotate", json!({})).await.done();
    let made = mount.read("static-creds/app").await.text("service_account_id");
    let body = json!({"project": PROJECT, "service_account_id": made});
    mount.write("roles/app", body).await.refused("already belongs to static role app");
    // One that stays does no harm, nor does one that was left.
    let body = json!({"project": PROJECT, "service_account_id": account});
    mount.write("roles/app", body).await.done();
    mount.delete("library-sets/pool").await.done();
    let body = json!({"project": PROJECT, "service_account_id": id("adopted")});
    mount.write("roles/app", body).await.done();
    mount.delete("static-roles/app").await.done();
}

#[tokio::test]
async fn a_ttl_above_the_mounts_is_warned_of_where_it_is_cut() {
    let mount = mount().await;
    mount.write("roles/app", json!({"project": PROJECT, "ttl": "10h"})).await.nothing();
    mount.host.set_max_lease_ttl(Duration::from_secs(3_600));
    let said = mount.write("roles/app", json!({"ttl": "11h"})).await;
    let said = said.warnings();
    assert!(said.iter().any(|it| it.starts_with("ttl is 11h, but the mount's maximum is 1h")), "{said:?}");
    assert!(
        said.iter().any(|it| it.starts_with("max_ttl is 24h, but the mount's maximum is 1h")),
        "{said:?}"
    );
    let made = mount.read("creds/app").await;
    assert_eq!(made.lease().ttl, Duration::from_secs(3_600));
    assert_eq!(made.warnings().len(), 1);
    assert!(
        made.warnings()[0].starts_with("ttl is 11h, but the mount's maximum is 1h"),
        "{:?}",
        made.warnings()
    );
    mount.revoke(made.lease()).await.done();
    for (ttl, warnings) in [("2h", 1), ("1h", 0), ("30m", 0)] {
        let made = mount.read_with("creds/app", json!({"ttl": ttl})).await;
        assert_eq!(made.warnings().len(), warnings, "{ttl}");
        mount.revoke(made.lease()).await.done();
    }
    mount.write("roles/app", json!({"ttl": "10m", "max_ttl": "1h"})).await.nothing();
}

#[tokio::test]
async fn a_ttl_of_zero_is_the_mounts_own_and_unset_is_not() {
    let mount = mount().await;
    let (default, maximum) = (Duration::from_secs(1_800), Duration::from_secs(7_200));
    mount.host.set_default_lease_ttl(default);
    mount.host.set_max_lease_ttl(maximum);
    let lease = async |role: Value, asked: Option<&str>| {
        mount.delete("roles/app").await.done();
        mount.write("roles/app", with(&json!({"project": PROJECT}), role)).await.done();
        let asked = asked.map_or(json!({}), |ttl| json!({"ttl": ttl}));
        let made = mount.read_with("creds/app", asked).await;
        let key = mount.sim.state().accounts[0].keys[0].clone();
        let life = key.expires_at.unwrap() - mount.sim.state().accounts[0].created_at;
        mount.revoke(made.lease()).await.done();
        assert_eq!(life, made.lease().ttl.as_secs() + 60);
        (made.lease().ttl.as_secs(), made.warnings().len())
    };
    assert_eq!(lease(json!({"max_ttl": "2h"}), None).await, (3_600, 0), "unset: 1h");
    assert_eq!(lease(json!({"ttl": 0, "max_ttl": "2h"}), None).await, (1_800, 0));
    assert_eq!(lease(json!({"ttl": 0, "max_ttl": "20m"}), None).await, (1_200, 0), "at most max_ttl");
    assert_eq!(lease(json!({"ttl": "0s", "max_ttl": "0"}), None).await, (1_800, 0));
    assert_eq!(lease(json!({"ttl": 0, "max_ttl": 0}), Some("2h")).await, (7_200, 0));
    assert_eq!(lease(json!({"ttl": "3h", "max_ttl": 0}), None).await, (7_200, 1), "cut, and said");
    let read = mount.read("roles/app").await.json();
    assert_eq!((&read["ttl"], &read["max_ttl"]), (&json!(10_800), &json!(0)));
    let above = mount.read_with("creds/app", json!({"ttl": "9h"})).await;
    assert_eq!((above.lease().ttl, above.warnings().len()), (maximum, 1));
    mount.revoke(above.lease()).await.done();
    mount.write("roles/app", json!({"max_ttl": "2h"})).await.refused("ttl must not be above max_ttl");
}

#[tokio::test]
async fn a_mount_without_bounds_is_bound_by_openai() {
    let mount = mount().await;
    mount.host.set_max_lease_ttl(Duration::from_secs(100_000 * 3_600));
    mount.write("roles/app", json!({"project": PROJECT, "ttl": 0, "max_ttl": 0})).await.done();
    mount.host.set_default_lease_ttl(Duration::from_secs(90_000 * 3_600));
    let made = mount.read("creds/app").await;
    assert_eq!(made.lease().ttl, Duration::from_secs(31_536_000));
    mount.revoke(made.lease()).await.done();
    mount.read_with("creds/app", json!({"ttl": "8761h"})).await.refused("above");
}

#[tokio::test]
async fn a_role_on_an_account_answers_the_accounts_name_and_says_when_it_is_gone() {
    let mount = mount().await;
    let account = mount.seed("pool-2", false).id;
    let body = json!({"project": PROJECT, "service_account_id": account});
    mount.write("roles/app", body).await.done();
    let made = mount.read("creds/app").await;
    assert_eq!(made.text("service_account"), "pool-2");
    assert_eq!(made.text("service_account_id"), account);
    mount.revoke(made.lease()).await.done();
    // Another account, and none.
    let other = mount.seed("pool-3", false).id;
    mount.patch("roles/app", json!({"service_account_id": other})).await.done();
    let made = mount.read("creds/app").await;
    assert_eq!(made.text("service_account"), "pool-3");
    mount.revoke(made.lease()).await.done();

    let path = format!("/organization/projects/{}/service_accounts/{other}", mount.sim.project());
    mount.remove_at_openai(&path).await;
    mount.advance(Duration::from_secs(300));
    let answered = mount.read("creds/app").await;
    answered.refused(&format!("service account {other} of role \"app\" is gone at OpenAI"));
    answered.refused("service_account_id");
    mount.patch("roles/app", json!({"service_account_id": ""})).await.done();
    let made = mount.read("creds/app").await;
    assert!(made.text("service_account").starts_with("vault-app-"));
    mount.revoke(made.lease()).await.done();
    mount.finish().await;
}

#[tokio::test]
async fn a_ttl_as_long_as_the_policy_allows_works_and_a_longer_one_names_the_field() {
    let mount = mount().await;
    let account = mount.seed("worker", false).id;
    for on_account in [false, true] {
        let mut role = json!({"project": PROJECT, "ttl": "1h"});
        if on_account {
            role["service_account_id"] = json!(account);
        }
        mount.write("roles/app", role).await.done();
        mount.sim.policy(Policy { max_lifetime: Some(3_600), ..Policy::default() });
        let made = mount.read("creds/app").await;
        assert_eq!(made.lease().ttl, Duration::from_secs(3_600));
        let keys: Vec<_> = mount.sim.state().accounts.iter().flat_map(|it| it.keys.clone()).collect();
        let [key] = &keys[..] else { panic!("one key: {keys:?}") };
        assert!(key.expires_at.unwrap() - mount.sim.state().now <= 3_600);
        mount.revoke(made.lease()).await.done();

        mount.sim.policy(Policy { max_lifetime: Some(3_599), ..Policy::default() });
        let refused = mount.read("creds/app").await;
        refused.refused("allows API keys to live 3599 seconds at most");
        refused.refused("the key of a credential lives for its ttl, which is 1h: ask for a shorter ttl");
        let made = mount.write("creds/app", json!({"ttl": 3_599})).await;
        mount.revoke(made.lease()).await.done();
        mount.sim.policy(Policy::default());
        mount.delete("roles/app").await.done();
    }
    mount.finish().await;
}

#[tokio::test]
async fn scopes_are_kept_clean() {
    let mount = mount().await;
    let body = json!({"project": PROJECT, "scopes": " a.read,, b.write ,"});
    mount.write("roles/app", body).await.done();
    assert_eq!(mount.read("roles/app").await.json()["scopes"], json!(["a.read", "b.write"]));
    mount.write("roles/app", json!({"scopes": ["", "c.read"]})).await.done();
    assert_eq!(mount.read("roles/app").await.json()["scopes"], json!(["c.read"]));
    mount.write("roles/app", json!({"scopes": "a.read,b.read,a.read"})).await.refused("scopes");
    for odd in [json!(["a b"]), json!(["a\u{7}"]), json!(["x".repeat(300)])] {
        mount.write("roles/app", json!({"scopes": odd})).await.refused("scopes");
    }
    let many: Vec<String> = (0..200).map(|number| format!("api.scope{number}.read")).collect();
    mount.write("roles/app", json!({"scopes": many})).await.refused("scopes must be at most 100");
}

#[tokio::test]
async fn an_account_of_a_credential_is_refused_without_a_list_of_the_ledger() {
    let mount = mount().await.without_lag();
    mount.write("roles/app", json!({"project": PROJECT, "max_ttl": "48h"})).await.done();
    for hours in 1..=40 {
        mount.read_with("creds/app", json!({"ttl": hours * 3_600})).await.done();
    }
    let made = mount.read("creds/app").await;
    let (id, name) = (made.text("service_account_id"), made.text("service_account"));
    let by_id = json!({"project": PROJECT, "service_account_id": id});
    let by_name = json!({"project": PROJECT, "service_account_names": name});
    let refused = async || {
        for (path, body) in
            [("roles/other", &by_id), ("static-roles/other", &by_id), ("library-sets/other", &by_name)]
        {
            let before = mount.storage.calls().lists;
            mount.write(path, body.clone()).await.refused("this mount made it for a credential");
            let lists = mount.storage.calls().lists - before;
            assert!(lists <= 12, "{path}: {lists} lists");
        }
    };
    refused().await;
    assert_eq!(mount.entries_left().await, 0);
    refused().await;
    // The record moves.
    mount.sim.fault(Fault::on(endpoint::DELETE_ACCOUNT, Action::status(403)).times(1));
    assert!(mount.revoke(made.lease()).await.answer.is_err());
    refused().await;
    // The record is gone, as after a restored backup.
    let [_, early] = windows::places(&name);
    mount.storage.delete(&early).await.unwrap();
    mount.write("static-roles/other", by_id.clone()).await.done();
    mount.lose(made.lease());
    mount.abandon();
}

/// Before creation windows, names had no stamp.
#[tokio::test]
async fn an_account_of_a_credential_of_an_early_release_is_refused() {
    let mount = mount().await;
    let tag = mount.read("info").await.text("mount_tag");
    let name = format!("vault-app-recorded-{tag}");
    let account = mount.seed(&name, false).id;
    let key = format!("ledger/01112394/31/{name}");
    mount.storage.put(Entry { key, value: b"{}".to_vec(), seal_wrap: false }).await.unwrap();
    let body = json!({"project": PROJECT, "service_account_id": account});
    for path in ["roles/other", "static-roles/other"] {
        mount.write(path, body.clone()).await.refused("this mount made it for a credential");
    }
    mount.abandon();
}
