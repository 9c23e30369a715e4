//! Static roles on a real server, row by row as the API reference has them: the role, its key, rotation by hand, and
//! the end. Rotation by the server's tick is `tick`'s.

use serde_json::{Value, json};

use crate::simulator::endpoint::{CREATE_ACCOUNT, CREATE_KEY};
use crate::support::api::Answer;
use crate::support::host::{Host, on_each_server};
use crate::support::openai::{OpenAi, PROJECT, UNTIL_404_COUNTS};
use crate::support::wait::within;

const ROLE: &str = "openai/static-roles/data-science";
const CREDS: &str = "openai/static-creds/data-science";
const ROTATE: &str = "openai/static-creds/data-science/rotate";

/// The role of the API reference, on the account that was there before, and what is sent besides.
async fn set_up(host: &Host, openai: &OpenAi, more: Value) {
    host.quick_start(openai).await;
    let mut role =
        json!({"service_account_id": openai.bystander(), "project": "my-project", "rotation_period": "48h"});
    for (field, value) in more.as_object().expect("fields") {
        role[field] = value.clone();
    }
    host.api().write(ROLE, role).await.ok();
}

/// Its key as it is told now.
async fn creds(host: &Host) -> Answer {
    kept(host, host.api().read(CREDS).await)
}

/// A new key, by hand.
async fn rotate(host: &Host, body: Value) -> Answer {
    kept(host, host.api().write(ROTATE, body).await)
}

fn kept(host: &Host, answer: Answer) -> Answer {
    let answer = answer.ok();
    host.keep_secret(&answer.text("api_key"));
    answer
}

#[tokio::test]
async fn a_static_role_reads_and_lists_as_the_reference_shows() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, json!({})).await;

        assert_eq!(host.api().list("openai/static-roles").await.ok().keys(), ["data-science"]);
        let role = host.api().read(ROLE).await.ok();
        for (field, value) in [
            ("api_key_name", json!("vault-static-key")),
            ("project", json!("my-project")),
            ("rotation_period", json!(172_800)),
            ("service_account_id", json!(openai.bystander())),
            ("ttl", json!(86_400)),
        ] {
            assert_eq!(*role.data(field), value, "{field}: {role:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_static_role_may_name_the_project_by_its_id() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let role = json!({
            "service_account_id": openai.bystander(), "project_id": PROJECT, "rotation_period": "24h"
        });
        host.api().write(ROLE, role).await.ok();
        assert!(openai.accepts(&creds(host).await.text("api_key")).await);
    })
    .await;
}

#[tokio::test]
async fn a_static_role_that_was_read_can_be_written_again_and_changes_nothing() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, json!({})).await;
        let (before, key) = (host.api().read(ROLE).await.ok().body["data"].clone(), creds(host).await);

        host.api().write(ROLE, before.clone()).await.ok();
        assert_eq!(host.api().read(ROLE).await.ok().body["data"], before);
        host.api().patch(ROLE, json!({"ttl": "90m"})).await.ok();
        assert_eq!(*host.api().read(ROLE).await.ok().data("ttl"), json!(5_400));
        assert_eq!(creds(host).await.text("api_key_id"), key.text("api_key_id"));
    })
    .await;
}

#[tokio::test]
async fn static_creds_answer_a_working_key_without_a_lease_and_without_openai() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, json!({})).await;
        let calls = openai.calls();

        let (first, second) = (creds(host).await, creds(host).await);
        assert_eq!(openai.calls(), calls, "a read asks OpenAI for nothing");
        assert_eq!(first.body["lease_id"], "");
        assert_eq!(*first.data("rotation_period"), json!(172_800));
        assert_eq!(first.text("service_account_id"), openai.bystander());
        assert_eq!(first.text("service_account"), "not-ours");
        assert!(first.text("last_rotation").ends_with('Z'), "{first:?}");
        assert_eq!(first.data("last_vault_rotation"), first.data("last_rotation"));
        assert!(first.data("ttl").as_u64().is_some_and(|ttl| (1..=86_400).contains(&ttl)), "{first:?}");
        assert_eq!(first.data("api_key"), second.data("api_key"));
        assert!(openai.accepts(&first.text("api_key")).await);
        assert_eq!(openai.live_keys_of(openai.bystander()), [first.text("api_key_id")]);
    })
    .await;
}

#[tokio::test]
async fn a_rotation_by_hand_answers_the_new_key_and_the_old_one_is_dead() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, json!({})).await;
        let before = creds(host).await;

        let after = rotate(host, json!({})).await;
        assert_ne!(after.text("api_key_id"), before.text("api_key_id"));
        assert_eq!(after.text("service_account_id"), openai.bystander());
        assert_eq!(*after.data("rotation_period"), json!(172_800));
        assert!(after.text("last_rotation") >= before.text("last_rotation"));
        assert!(openai.accepts(&after.text("api_key")).await);
        assert!(!openai.accepts(&before.text("api_key")).await);
        assert_eq!(creds(host).await.data("api_key"), after.data("api_key"));
        assert!(openai.accounts().is_empty(), "the account stays, and no other is made");
    })
    .await;
}

#[tokio::test]
async fn a_replaced_key_works_for_the_grace_period() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, json!({"grace_period": "10m"})).await;
        let first = creds(host).await;

        let second = rotate(host, json!({})).await;
        assert!(openai.accepts(&first.text("api_key")).await, "its grace is not over");
        assert!(host.api().read(ROLE).await.ok().data("grace_keys")[first.text("api_key_id")].is_object());
        rotate(host, json!({"grace_period": 0})).await;
        assert!(!openai.accepts(&second.text("api_key")).await);
        assert!(openai.accepts(&first.text("api_key")).await);
    })
    .await;
}

#[tokio::test]
async fn with_the_method_account_a_rotation_makes_a_new_account_and_ends_only_what_it_made() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, json!({"rotation_method": "account"})).await;
        let given = creds(host).await;
        assert_eq!(given.text("service_account_id"), openai.bystander());

        let second = rotate(host, json!({})).await;
        assert_ne!(second.text("service_account_id"), openai.bystander());
        assert!(!openai.accepts(&given.text("api_key")).await);
        assert!(
            openai.live_keys_of(openai.bystander()).is_empty(),
            "the given account stays, without our key"
        );

        let third = rotate(host, json!({})).await;
        assert!(openai.accepts(&third.text("api_key")).await);
        assert!(!openai.accepts(&second.text("api_key")).await);
        assert_eq!(openai.accounts(), [third.text("service_account")], "the replaced account is gone");

        host.api().delete(ROLE).await.ok();
        assert!(openai.accounts().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_deleted_static_role_revokes_its_key_and_leaves_the_account() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, json!({})).await;
        let key = creds(host).await.text("api_key");

        for _ in 0..2 {
            assert_eq!(host.api().delete(ROLE).await.status, 204);
        }
        assert!(!openai.accepts(&key).await);
        assert!(openai.live_keys_of(openai.bystander()).is_empty());
        assert_eq!(host.api().read(ROLE).await.status, 404);
        host.api().read(CREDS).await.refused(400, "static role \"data-science\" not found");
        assert_eq!(host.api().list("openai/static-roles").await.status, 404);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_static_role_is_refused_and_nothing_of_it_is_made() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, json!({})).await;
        let free = openai.existing_account("free");
        let calls = (openai.state().calls(CREATE_KEY), openai.state().calls(CREATE_ACCOUNT));

        for (field, value, sentence) in [
            ("service_account_id", json!("svc_acct_nobody"), "service_account_id must name an account"),
            ("service_account_id", json!(openai.bystander()), "already belongs to static role data-science"),
            ("service_account_id", Value::Null, "service_account_id"),
            ("project", json!("nowhere"), "project not found: "),
            ("project_id", json!("proj_other"), "project and project_id must agree"),
            ("rotation_period", json!("59s"), "rotation_period must be 0"),
            ("rotation_schedule", json!("61 * * * *"), "failed to parse provided rotation_schedule"),
            ("rotation_window", json!("1h"), "rotation_window"),
            ("rotation_method", json!("magic"), "rotation_method"),
            ("grace_period", json!("25h"), "grace_period must not be above the time between rotations"),
            ("ttl", json!(0), "ttl must be at least 1s"),
        ] {
            let mut role =
                json!({"service_account_id": free, "project": "my-project", "rotation_period": "24h"});
            if field == "rotation_schedule" {
                // Null would stand for its default, 24h: both kinds at once.
                role.as_object_mut().expect("fields").remove("rotation_period");
            }
            role[field] = value;
            host.api().write("openai/static-roles/other", role).await.refused(400, sentence);
            assert_eq!(host.api().read("openai/static-roles/other").await.status, 404, "{field} was stored");
        }
        let both = json!({
            "service_account_id": free, "project": "my-project", "rotation_period": "24h",
            "rotation_schedule": "0 3 * * *"
        });
        host.api().write("openai/static-roles/other", both).await.refused(400, "mutually exclusive");
        host.api()
            .write("openai/static-creds/other/rotate", json!({}))
            .await
            .refused(400, "\"other\" not found");
        assert_eq!((openai.state().calls(CREATE_KEY), openai.state().calls(CREATE_ACCOUNT)), calls);
    })
    .await;
}

#[tokio::test]
async fn an_account_belongs_to_one_static_role_or_set_and_never_to_the_admin_key() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, json!({})).await;
        let set = json!({"project": "my-project", "service_account_names": "not-ours"});
        let refusal = host.api().write("openai/library-sets/pool", set).await;
        refusal.refused(400, "already belongs to static role data-science");

        let lent = openai.existing_account("lent");
        let set = json!({"project": "my-project", "service_account_names": "lent"});
        host.api().write("openai/library-sets/pool", set).await.ok();
        let role = json!({"service_account_id": lent, "project": "my-project"});
        let refusal = host.api().write("openai/static-roles/other", role).await;
        refusal.refused(400, "already belongs to library set pool");

        let admin = openai.existing_account("admin");
        openai.give_admin_keys_to(&admin);
        let role = json!({"service_account_id": admin, "project": "my-project"});
        let refusal = host.api().write("openai/static-roles/other", role).await;
        refusal.refused(400, "the account that owns the admin key");

        // What was let go can be taken by another.
        host.api().delete(ROLE).await.ok();
        let set = json!({"project": "my-project", "service_account_names": "lent,not-ours"});
        host.api().write("openai/library-sets/pool", set).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_project_that_a_static_role_or_set_uses_cannot_be_deleted() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        set_up(host, &openai, json!({})).await;
        host.api().delete("openai/roles/my-role").await.ok();
        let set = json!({"project": "my-project", "service_account_names": "one"});
        host.api().write("openai/library-sets/pool", set).await.ok();

        let refusal = host.api().delete("openai/project/my-project").await;
        refusal.refused(400, "project has roles that use it, cannot delete");
        refusal.refused(400, "static role data-science");
        refusal.refused(400, "library set pool");
        host.api().delete(ROLE).await.ok();
        host.api().delete("openai/project/my-project").await.refused(400, "library set pool");
        host.api().delete("openai/library-sets/pool").await.ok();
        host.api().delete("openai/project/my-project").await.ok();
    })
    .await;
}

#[tokio::test]
async fn an_account_that_openai_lost_says_so_and_keeps_its_old_answer() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        let account = openai.existing_account("to-be-lost");
        set_up(host, &openai, json!({"service_account_id": account})).await;
        let before = creds(host).await;

        openai.delete_account(&account).await;
        host.api().write(ROTATE, json!({})).await.refused(503, "the object is less than a minute old");
        let told = within(UNTIL_404_COUNTS, async || {
            let answer = host.api().write(ROTATE, json!({})).await;
            (answer.status != 503).then_some(answer)
        })
        .await;
        told.expect("a 404 counts after a minute").refused(400, "is gone at OpenAI");
        assert_eq!(creds(host).await.data("api_key"), before.data("api_key"));
        // OpenAI may have made a key that it refused: the deletion may warn of that.
        host.api().delete(ROLE).await.ok();
    })
    .await;
}
