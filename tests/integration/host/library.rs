//! Library sets on a real server, row by row as the API reference has them: the set, check-out, renewal, check-in,
//! status, and who may do what.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::api::{Answer, Api};
use crate::support::host::{Host, on_each_server};
use crate::support::openai::OpenAi;
use crate::support::wait::eventually;

const SET: &str = "openai/library-sets/research";
const CHECK_OUT: &str = "openai/library-sets/research/check-out";
const CHECK_IN: &str = "openai/library-sets/research/check-in";
const ADMIN_CHECK_IN: &str = "openai/library-sets/research/admin-check-in";
const STATUS: &str = "openai/library-sets/research/status";

const CHECKED_IN: &str = "Service account checked in and API key rotated.";
const FORCED: &str = "Service account forcibly checked in and API key rotated.";

/// The set of the API reference, but for its accounts.
async fn set_up(host: &Host, openai: &OpenAi, names: &str) {
    host.quick_start(openai).await;
    let set = json!({
        "project": "my-project", "service_account_names": names, "max_ttl": "48h",
        "description": "Research team shared service accounts"
    });
    host.api().write(SET, set).await.ok();
}

async fn check_out(host: &Host, caller: &Api, body: Value) -> Answer {
    let lent = caller.write(CHECK_OUT, body).await.ok();
    host.keep_secret(&lent.text("api_key"));
    lent
}

fn id_of(lent: &Answer) -> Value {
    json!({"service_account_id": lent.text("service_account_id")})
}

/// What the status says of each account.
async fn statuses(host: &Host) -> Value {
    host.api().read(STATUS).await.ok().data("account_status").clone()
}

fn live_keys(openai: &OpenAi) -> usize {
    openai.state().live_keys().count()
}

#[tokio::test]
async fn a_library_set_reads_and_lists_as_the_reference_shows() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1,research-sa-2,research-sa-3").await;

        assert_eq!(host.api().list("openai/library-sets").await.ok().keys(), ["research"]);
        let set = host.api().read(SET).await.ok();
        assert_eq!(set.text("description"), "Research team shared service accounts");
        assert_eq!(*set.data("max_ttl"), json!(172_800));
        assert_eq!(set.text("project"), "my-project");
        let names = json!(["research-sa-1", "research-sa-2", "research-sa-3"]);
        assert_eq!(*set.data("service_account_names"), names);

        let before = set.body["data"].clone();
        host.api().write(SET, before.clone()).await.ok();
        assert_eq!(host.api().read(SET).await.ok().body["data"], before);
        assert_eq!(openai.accounts().len(), 3, "writing the same again makes nothing");
    })
    .await;
}

#[tokio::test]
async fn an_account_that_is_there_is_adopted_one_that_is_not_is_made_and_none_has_a_key() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "not-ours,made").await;

        assert_eq!(openai.accounts(), ["made"]);
        assert_eq!(live_keys(&openai), 0);
        assert_eq!(statuses(host).await, json!({"not-ours": "available", "made": "available"}));
        host.api().delete(SET).await.ok();
        assert!(openai.accounts().is_empty(), "what Vault made goes with the set");
        assert!(openai.state().account(openai.bystander()).is_some(), "what it adopted stays");
        assert_eq!(host.api().read(SET).await.status, 404);
    })
    .await;
}

#[tokio::test]
async fn a_check_out_answers_a_renewable_lease_and_a_working_key() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1").await;
        let calls = openai.calls();

        let lent = check_out(host, host.api(), json!({"ttl": "4h"})).await;
        assert_eq!(openai.calls(), calls + 1, "a check-out is one call to OpenAI");
        assert!(lent.lease_id().starts_with(&format!("{CHECK_OUT}/")), "{lent:?}");
        assert_eq!(lent.body["lease_duration"], 14_400);
        assert_eq!(lent.body["renewable"], true);
        assert_eq!(lent.text("service_account"), "research-sa-1");
        assert!(lent.text("checkout_time").ends_with('Z'), "{lent:?}");
        assert!(openai.accepts(&lent.text("api_key")).await);
        assert_eq!(openai.live_keys_of(&lent.text("service_account_id")), [lent.text("api_key_id")]);
    })
    .await;
}

#[tokio::test]
async fn a_check_out_lasts_an_hour_if_nothing_else_is_said() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1").await;
        let lent = check_out(host, host.api(), json!({})).await;
        assert_eq!(lent.body["lease_duration"], 3_600);
    })
    .await;
}

#[tokio::test]
async fn a_renewal_keeps_the_account_for_longer_without_openai() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1").await;
        let lent = check_out(host, host.api(), json!({"ttl": "1h"})).await;
        let (calls, before) = (openai.calls(), until(host).await);

        let request = json!({"lease_id": lent.lease_id(), "increment": 7_200});
        let renewed = host.api().write("sys/leases/renew", request).await.ok();
        assert_eq!(renewed.body["lease_duration"], 7_200);
        assert_eq!(renewed.body["renewable"], true);
        assert_eq!(openai.calls(), calls, "a renewal asks OpenAI for nothing");
        assert!(until(host).await > before);
        assert!(openai.accepts(&lent.text("api_key")).await);
    })
    .await;
}

/// Until when the only account is lent.
async fn until(host: &Host) -> String {
    let status = host.api().read(STATUS).await.ok();
    let until = status.data("check_outs")["research-sa-1"]["until"].as_str();
    until.unwrap_or_else(|| panic!("{status:?}")).to_owned()
}

#[tokio::test]
async fn the_borrower_checks_in_and_the_key_is_dead() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1").await;
        let borrower = host.borrower().await;
        let lent = check_out(host, &borrower, json!({})).await;
        let calls = openai.calls();

        let answer = borrower.write(CHECK_IN, id_of(&lent)).await.ok();
        assert_eq!(openai.calls(), calls + 1, "a check-in is one call to OpenAI");
        assert_eq!(answer.text("message"), CHECKED_IN);
        assert!(!openai.accepts(&lent.text("api_key")).await);
        assert_eq!(live_keys(&openai), 0);
        assert_eq!(statuses(host).await, json!({"research-sa-1": "available"}));
        borrower.write(CHECK_IN, id_of(&lent)).await.refused(400, "is not checked out");

        // The next borrower is not disturbed by the lease of the one before.
        let next = check_out(host, host.api(), json!({})).await;
        host.revoke(&lent).await;
        assert!(openai.accepts(&next.text("api_key")).await);
    })
    .await;
}

#[tokio::test]
async fn a_stranger_is_refused_and_an_operator_is_not() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1").await;
        let (borrower, stranger) = (host.borrower().await, host.borrower().await);
        let lent = check_out(host, &borrower, json!({})).await;

        stranger.write(CHECK_IN, id_of(&lent)).await.refused(400, "checked out by somebody else");
        stranger.write(CHECK_IN, json!({})).await.refused(400, "you have no service account");
        assert!(openai.accepts(&lent.text("api_key")).await);
        stranger.write(ADMIN_CHECK_IN, id_of(&lent)).await.refused(403, "permission denied");

        let answer = host.api().write(ADMIN_CHECK_IN, id_of(&lent)).await.ok();
        assert_eq!(answer.text("message"), FORCED);
        assert!(!openai.accepts(&lent.text("api_key")).await);
        check_out(host, &stranger, json!({})).await;
    })
    .await;
}

#[tokio::test]
async fn a_set_may_let_anybody_check_in() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1").await;
        host.api().patch(SET, json!({"disable_check_in_enforcement": true})).await.ok();
        let (borrower, stranger) = (host.borrower().await, host.borrower().await);
        let lent = check_out(host, &borrower, json!({})).await;

        stranger.write(CHECK_IN, id_of(&lent)).await.ok();
        assert!(!openai.accepts(&lent.text("api_key")).await);
    })
    .await;
}

#[tokio::test]
async fn two_tokens_of_a_person_are_one_borrower_and_another_person_is_not() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1").await;
        let (alice, bob) = (host.person("alice").await, host.person("bob").await);
        let lent = check_out(host, &alice.log_in().await, json!({})).await;

        bob.log_in().await.write(CHECK_IN, id_of(&lent)).await.refused(400, "somebody else");
        // Neither need say which account: she has just the one.
        alice.log_in().await.write(CHECK_IN, json!({})).await.ok();
        assert!(!openai.accepts(&lent.text("api_key")).await);
    })
    .await;
}

#[tokio::test]
async fn both_spellings_of_each_path_do_the_same() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1").await;
        for (out, back, message) in [
            ("check-out", "check-in", CHECKED_IN),
            ("checkout", "checkin", CHECKED_IN),
            ("checkout", "admin-check-in", FORCED),
            ("check-out", "admin-checkin", FORCED),
        ] {
            let lent = host.api().write(&format!("{SET}/{out}"), json!({"ttl": "4h"})).await.ok();
            host.keep_secret(&lent.text("api_key"));
            assert!(lent.lease_id().starts_with(&format!("{SET}/{out}/")), "{lent:?}");
            let answer = host.api().write(&format!("{SET}/{back}"), id_of(&lent)).await.ok();
            assert_eq!(answer.text("message"), message);
            assert_eq!(live_keys(&openai), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn the_status_says_who_has_what_and_shows_no_key() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1,research-sa-2,research-sa-3").await;
        let lent = check_out(host, host.api(), json!({"service_account": "research-sa-2"})).await;

        let status = host.api().read(STATUS).await.ok();
        assert_eq!(*status.data("available_accounts"), json!(2));
        assert_eq!(*status.data("checked_out_accounts"), json!(1));
        assert_eq!(*status.data("max_ttl"), json!(172_800));
        assert_eq!(status.text("project"), "my-project");
        let expected = json!({
            "research-sa-1": "available", "research-sa-2": "checked-out", "research-sa-3": "available"
        });
        assert_eq!(*status.data("account_status"), expected);
        let who = &status.data("check_outs")["research-sa-2"];
        assert_eq!(who["display_name"], "root");
        assert_eq!(who["since"], *lent.data("checkout_time"));
        assert!(!status.body.to_string().contains(&lent.text("api_key")));
    })
    .await;
}

#[tokio::test]
async fn a_revoked_or_ended_lease_frees_its_account() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1").await;

        let lent = check_out(host, host.api(), json!({})).await;
        host.revoke(&lent).await;
        assert!(!openai.accepts(&lent.text("api_key")).await);
        assert_eq!(statuses(host).await, json!({"research-sa-1": "available"}));

        let lent = check_out(host, host.api(), json!({"ttl": "2s"})).await;
        eventually("the lease runs out and the account is free", async || {
            (statuses(host).await == json!({"research-sa-1": "available"})).then_some(())
        })
        .await;
        assert!(!openai.accepts(&lent.text("api_key")).await);
    })
    .await;
}

#[tokio::test]
async fn fifty_at_once_get_the_ten_accounts_of_a_set_each_for_one() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        let names: Vec<_> = (1..=10).map(|number| format!("shared-{number}")).collect();
        set_up(host, &openai, &names.join(",")).await;

        let answers = join_all((0..50).map(|_| host.api().write(CHECK_OUT, json!({})))).await;
        let (lent, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
        for answer in &refused {
            answer.refused(400, "no available service accounts in library");
        }
        assert_eq!((lent.len(), refused.len()), (10, 40));
        let accounts: BTreeSet<_> = lent.iter().map(|answer| answer.text("service_account_id")).collect();
        assert_eq!(accounts.len(), 10);
        assert_eq!(live_keys(&openai), 10);
        for answer in &lent {
            host.keep_secret(&answer.text("api_key"));
            assert!(openai.accepts(&answer.text("api_key")).await);
        }
    })
    .await;
}

#[tokio::test]
async fn a_set_is_neither_deleted_nor_emptied_while_it_is_lent() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1,research-sa-2").await;
        let lent = check_out(host, host.api(), json!({"service_account": "research-sa-1"})).await;

        let sentence = "must be checked in first (admin-check-in can force it): research-sa-1";
        host.api().delete(SET).await.refused(400, sentence);
        let emptied = json!({"service_account_names": "research-sa-2"});
        host.api().patch(SET, emptied.clone()).await.refused(400, sentence);
        assert!(openai.accepts(&lent.text("api_key")).await);

        host.api().write(CHECK_IN, id_of(&lent)).await.ok();
        host.api().patch(SET, emptied).await.ok();
        assert_eq!(openai.accounts(), ["research-sa-2"]);
        assert_eq!(host.api().delete(SET).await.status, 204);
        assert!(openai.accounts().is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_may_not_be_lent_is_refused_and_nothing_changes() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1,research-sa-2").await;
        let lent = check_out(host, host.api(), json!({})).await;
        let before = (openai.calls(), statuses(host).await);

        for (path, body, sentence) in [
            (CHECK_OUT, json!({"ttl": "49h"}), "ttl must not be above the library set's max_ttl"),
            (CHECK_OUT, json!({"ttl": 0}), "ttl must be at least 1s"),
            (
                CHECK_OUT,
                json!({"service_account": "research-sa-1"}),
                "service account is already checked out",
            ),
            (CHECK_OUT, json!({"service_account": "nobody"}), "has no service account \"nobody\""),
            (CHECK_IN, json!({"service_account": "research-sa-2"}), "is not checked out"),
            (CHECK_IN, json!({"service_account_id": "svc_acct_nobody"}), "has no service account"),
            (ADMIN_CHECK_IN, json!({}), "service_account_id"),
            ("openai/library-sets/none/check-out", json!({}), "library set \"none\" not found"),
        ] {
            host.api().write(path, body).await.refused(400, sentence);
        }
        check_out(host, host.api(), json!({})).await;
        host.api().write(CHECK_OUT, json!({})).await.refused(400, "no available service accounts in library");
        assert_eq!(openai.calls(), before.0 + 1, "a refusal asks OpenAI for nothing");
        assert_eq!(before.1[lent.text("service_account")], "checked-out");
        assert_eq!(host.api().read("openai/library-sets/none/status").await.status, 404);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_library_set_is_refused_and_not_stored() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "research-sa-1").await;
        openai.give_admin_keys_to(&openai.existing_account("admin"));

        for (body, sentence) in [
            (json!({"service_account_names": "a"}), "project (a name) or project_id"),
            (json!({"project": "nowhere", "service_account_names": "a"}), "project not found: "),
            (json!({"project": "my-project"}), "service_account_names"),
            (json!({"project": "my-project", "service_account_names": "a,a"}), "must not repeat a name"),
            (
                json!({"project": "my-project", "service_account_names": "a", "ttl": "2h", "max_ttl": "1h"}),
                "ttl",
            ),
            (
                json!({"project": "my-project", "service_account_names": "research-sa-1"}),
                "already belongs to library set research",
            ),
            (
                json!({"project": "my-project", "service_account_names": "admin"}),
                "the account that owns the admin key of this mount",
            ),
        ] {
            host.api().write("openai/library-sets/other", body.clone()).await.refused(400, sentence);
            assert_eq!(host.api().read("openai/library-sets/other").await.status, 404, "{body} was stored");
        }
        let mut accounts = openai.accounts();
        accounts.sort_unstable();
        assert_eq!(accounts, ["admin", "research-sa-1"], "OpenAI is as it was");
    })
    .await;
}

#[tokio::test]
async fn a_disabled_mount_takes_back_what_it_lent() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, "not-ours").await;
        let lent = check_out(host, host.api(), json!({})).await;

        host.disable("openai").await.ok();
        eventually("the lent key is dead", async || {
            (!openai.accepts(&lent.text("api_key")).await).then_some(())
        })
        .await;
    })
    .await;
}
