//! What a caller does wrong, as the real API answers it: the troubleshooting guide's sentences, nothing
//! stored, the process alive.

use serde_json::{Value, json};

use crate::simulator::endpoint::{CREATE_ACCOUNT, CREATE_KEY};
use crate::support::host::{Host, on_each_server};
use crate::support::openai::{ADMIN_KEY, ORGANIZATION, OpenAi, PROJECT};

#[tokio::test]
async fn nothing_works_before_the_configuration() {
    on_each_server(async |host| {
        host.register().await;
        host.enable("openai").await;

        let project = json!({"project_id": PROJECT});
        let refusal = host.api().write("openai/project/my-project", project).await;
        refusal.refused(400, "OpenAI client not configured");
        assert_eq!(host.api().read("openai/config").await.status, 404);
        assert_eq!(host.api().read("openai/project/my-project").await.status, 404);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_and_not_stored() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.register().await;
        host.enable("openai").await;
        let process = host.plugin_process();
        let wrong_key = "sk-admin-wrong-0123456789abcdefghijkl";
        host.keep_secret(wrong_key);

        for (field, value, sentence) in [
            ("admin_api_key", json!(wrong_key), "error validating OpenAI configuration: "),
            ("organization_id", json!("org-of-someone-else"), "error validating OpenAI configuration: "),
            ("organization_id", Value::Null, "organization_id"),
            ("admin_api_key", Value::Null, "admin_api_key"),
            ("api_endpoint", json!("https://someone:secret@api.openai.com/v1"), "api_endpoint"),
            ("api_endpoint", json!("http://api.openai.com/v1"), "api_endpoint"),
            ("api_endpoint", json!("https://api.openai.com/v1?x=1"), "api_endpoint"),
            ("api_endpoint", json!("nonsense"), "api_endpoint"),
            ("ca_cert", json!("not a certificate"), "ca_cert"),
            ("verify_connection", json!("maybe"), "verify_connection"),
            ("key_expiry_margin", json!(-5), "key_expiry_margin"),
        ] {
            let mut config = host.config(&openai);
            config[field] = value;
            host.api().write("openai/config", config).await.refused(400, sentence);
            assert_eq!(host.api().read("openai/config").await.status, 404, "{field} was stored");
        }
        assert_eq!(host.plugin_process(), process);
    })
    .await;
}

#[tokio::test]
async fn another_endpoint_needs_the_key_with_it() {
    on_each_server(async |host| {
        let (openai, thief) = (OpenAi::start().await, OpenAi::start().await);
        host.quick_start(&openai).await;

        let endpoint = json!({"api_endpoint": thief.endpoint()});
        host.api().write("openai/config", endpoint).await.refused(400, "admin_api_key");
        assert_eq!(host.api().read("openai/config").await.text("api_endpoint"), openai.endpoint());

        let both = json!({"api_endpoint": thief.endpoint(), "admin_api_key": ADMIN_KEY});
        host.api().write("openai/config", both).await.ok();
        assert_eq!(host.api().read("openai/config").await.text("organization_id"), ORGANIZATION);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_project_is_refused_and_not_stored() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        for (body, sentence) in [
            (json!({"project_id": "proj_nowhere"}), "project_id"),
            (json!({"project_id": openai.archived_project().await}), "archived"),
            (json!({"description": "without an id"}), "project_id"),
        ] {
            is_refused(host, "openai/project/other", body, sentence).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_role_is_refused_and_not_stored() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let process = host.plugin_process();
        for (body, sentence) in [
            (json!({"project": "nowhere"}), "project not found: "),
            (json!({}), "project"),
            (json!({"project": "my-project", "project_id": "proj_other"}), "must agree"),
            (json!({"project": "my-project", "ttl": "2h", "max_ttl": "1h"}), "ttl"),
            (json!({"project": "my-project", "ttl": "soon"}), "ttl"),
            (json!({"project": "my-project", "ttl": -1}), "ttl"),
            (
                json!({"project": "my-project", "service_account_name_template": "{{.RoleName"}),
                "service_account_name_template",
            ),
            (
                json!({"project": "my-project", "service_account_name_template": "{{nothing .X}}"}),
                "service_account_name_template",
            ),
            (json!({"project": ["a", "list"]}), "project"),
        ] {
            is_refused(host, "openai/roles/other", body, sentence).await;
        }
        host.credential().await;
        assert_eq!(host.plugin_process(), process);
    })
    .await;
}

async fn is_refused(host: &Host, path: &str, body: Value, sentence: &str) {
    host.api().write(path, body.clone()).await.refused(400, sentence);
    assert_eq!(host.api().read(path).await.status, 404, "{body} was stored");
}

#[tokio::test]
async fn a_credential_that_may_not_be_is_refused_and_not_made() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;

        host.api().read("openai/creds/nobody").await.refused(400, "nobody");
        host.api().read("openai/creds/my-role?ttl=25h").await.refused(400, "max_ttl");
        host.api().read("openai/creds/my-role?ttl=soon").await.refused(400, "ttl");
        assert!(openai.accounts().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_project_in_use_cannot_be_deleted() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;

        let refusal = host.api().delete("openai/project/my-project").await;
        refusal.refused(400, "project has roles that use it, cannot delete");
        refusal.refused(400, "my-role");
        host.api().delete("openai/roles/my-role").await.ok();
        host.api().delete("openai/project/my-project").await.ok();
        assert_eq!(host.api().read("openai/project/my-project").await.status, 404);
    })
    .await;
}

#[tokio::test]
async fn openais_own_refusal_is_passed_on() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        openai.refuse_next(CREATE_ACCOUNT, 403, "Your organization forbids this.");
        let refusal = host.api().read("openai/creds/my-role").await;
        refusal.refused(400, "service account creation failed: ");
        refusal.refused(400, "Your organization forbids this.");

        let role = json!({"project": "my-project", "service_account_id": openai.bystander()});
        host.api().write("openai/roles/my-role", role).await.ok();
        openai.refuse_next(CREATE_KEY, 403, "Your organization forbids that.");
        let refusal = host.api().read("openai/creds/my-role").await;
        refusal.refused(400, "API key creation failed: ");
        refusal.refused(400, "Your organization forbids that.");
        assert!(openai.accounts().is_empty());
    })
    .await;
}
