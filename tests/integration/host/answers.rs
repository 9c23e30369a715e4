//! How the paths answer to each kind of request on a real server, and how they describe themselves.

use serde_json::{Value, json};

use crate::support::document::is_valid;
use crate::support::host::on_each_server;
use crate::support::openai::{ORGANIZATION, OpenAi, PROJECT};

#[tokio::test]
async fn what_is_not_there_is_404_and_what_cannot_be_done_is_405() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let api = host.api();

        for path in ["openai/roles/none", "openai/project/none", "openai/no/such/path"] {
            assert_eq!(api.read(path).await.status, 404, "{path}");
        }
        assert_eq!(api.delete("openai/creds/my-role").await.status, 405);
        assert_eq!(api.list("openai/no/such").await.status, 404);
        for _ in 0..2 {
            assert_eq!(api.delete("openai/roles/my-role").await.status, 204);
        }
        assert_eq!(api.list("openai/roles").await.status, 404);
    })
    .await;
}

#[tokio::test]
async fn lists_name_what_is_there() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let role = json!({"project_id": PROJECT, "ttl": "15m"});
        host.api().write("openai/roles/another", role).await.ok();

        let roles = host.api().list("openai/roles").await.ok();
        assert_eq!(roles.keys(), ["another", "my-role"]);
        assert!(roles.data("key_info")["another"].is_object(), "{roles:?}");
        assert_eq!(host.api().list("openai/project").await.ok().keys(), ["my-project"]);
    })
    .await;
}

#[tokio::test]
async fn a_read_never_shows_the_admin_key() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;

        let config = host.api().read("openai/config").await.ok();
        assert_eq!(config.text("organization_id"), ORGANIZATION);
        assert_eq!(config.text("api_endpoint"), openai.endpoint());
        assert_eq!(*config.data("admin_api_key"), Value::Null);
    })
    .await;
}

#[tokio::test]
async fn what_was_read_can_be_written_again_and_changes_nothing() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        for path in ["openai/roles/my-role", "openai/project/my-project"] {
            let before = host.api().read(path).await.ok().body["data"].clone();
            host.api().write(path, before.clone()).await.ok();
            assert_eq!(host.api().read(path).await.ok().body["data"], before, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_patch_and_an_update_change_only_what_they_send() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;
        let api = host.api();
        let mut expected = api.read("openai/roles/my-role").await.ok().body["data"].clone();

        api.patch("openai/roles/my-role", json!({"ttl": "90s"})).await.ok();
        expected["ttl"] = json!(90);
        assert_eq!(api.read("openai/roles/my-role").await.ok().body["data"], expected);

        api.write("openai/roles/my-role", json!({"max_ttl": "2h"})).await.ok();
        expected["max_ttl"] = json!(7200);
        assert_eq!(api.read("openai/roles/my-role").await.ok().body["data"], expected);
    })
    .await;
}

#[tokio::test]
async fn an_unknown_field_is_warned_of() {
    on_each_server(async |host| {
        let openai = OpenAi::start().await;
        host.quick_start(&openai).await;

        let answer = host.api().read("openai/creds/my-role?colour=blue").await.ok();
        host.keep_secret(&answer.text("api_key"));
        assert!(answer.body["warnings"].to_string().contains("[colour]"), "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn every_path_has_its_help() {
    on_each_server(async |host| {
        host.register().await;
        host.enable("openai").await;

        for (path, field) in [
            ("openai/config", "admin_api_key"),
            ("openai/project/my-project", "project_id"),
            ("openai/roles/my-role", "service_account_name_template"),
            ("openai/creds/my-role", "ttl"),
        ] {
            let help = host.api().help(path).await.ok().body;
            assert!(help["help"].as_str().is_some_and(|text| text.contains(field)), "{path}: {help}");
        }
        let all = host.api().help("openai").await.ok().body["help"].to_string();
        for pattern in ["config", "project/", "roles/", "creds/"] {
            assert!(all.contains(pattern), "{pattern} is not in {all}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_servers_api_document_has_our_paths() {
    on_each_server(async |host| {
        host.register().await;
        host.enable("openai").await;

        let document = host.api().read("sys/internal/specs/openapi").await.ok().body;
        for (path, method) in [
            ("/openai/config", "post"),
            ("/openai/project/{name}", "post"),
            ("/openai/roles/{name}", "delete"),
            ("/openai/roles/", "get"),
            ("/openai/creds/{name}", "get"),
        ] {
            assert!(document["paths"][path][method].is_object(), "no {method} for {path} in the document");
        }
        assert!(document["paths"]["/sys/mounts"].is_object(), "the rest of the document is there");
        if !host.is_too_old_for("patches in the server's API document", 20).await {
            // Another the server refuses (PROTOCOL 8.11).
            let patched = &document["paths"]["/openai/roles/{name}"]["patch"]["requestBody"]["content"];
            let patched = &patched["application/merge-patch+json"]["schema"];
            assert!(patched["properties"].is_object(), "{patched}");
            assert_eq!(patched["example"], json!({}), "{patched}");
        }
        // As merged by the server, which drops what refers to other parts.
        is_valid(&document, "/openai/");
        let answer = &document["paths"]["/openai/creds/{name}"]["get"]["responses"]["200"];
        let fields = &answer["content"]["application/json"]["schema"]["properties"];
        assert_eq!(fields["api_key"]["x-vault-displayAttrs"]["sensitive"], true, "{answer}");
    })
    .await;
}
