//! What OpenAI refuses, the simulator refuses: one test for each rule.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Caller, sent, text, with_json};

/// One year.
const LONGEST: u64 = 31_536_000;

/// Every path that takes a body, with a body that it takes.
async fn writes(caller: &Caller) -> Vec<(String, Value)> {
    let account = caller.account("strict").await;
    let one = format!("{}/{}", caller.accounts(), text(&account["id"]));
    let key = format!("{}/{}", caller.keys(), text(&account["api_key"]["id"]));
    vec![
        ("/organization/admin_api_keys".to_owned(), json!({"name": "n"})),
        ("/organization/projects".to_owned(), json!({"name": "n"})),
        (format!("/organization/projects/{}", caller.sim.project()), json!({"name": "n"})),
        (caller.accounts(), json!({"name": "n"})),
        (one.clone(), json!({"name": "n"})),
        (format!("{one}/api_keys"), json!({"name": "n"})),
        (key, json!({"scopes": ["api.all.read"]})),
    ]
}

/// Every path that takes `expires_in_seconds`, with a body that it takes.
async fn mortal_writes(caller: &Caller) -> Vec<(String, Value)> {
    let mut writes = writes(caller).await;
    writes.retain(|(path, _)| path.contains("api_keys") || path.ends_with("service_accounts"));
    assert_eq!(writes.len(), 4);
    writes
}

fn with(body: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut body = body.clone();
    body[name] = value.into();
    body
}

#[tokio::test]
async fn every_write_is_accepted_as_documented() {
    let caller = Caller::start().await;
    for (path, body) in writes(&caller).await {
        caller.post(&path, body).await.ok();
    }
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let caller = Caller::start().await;
    for (path, _) in writes(&caller).await {
        for body in ["{", "[]", "\"name\"", "null", "{\"name\": }"] {
            let request = caller.admin("POST", &path).header("Content-Type", "application/json").body(body);
            sent(request).await.refused(400, Value::Null, Value::Null);
        }
    }
}

#[tokio::test]
async fn a_missing_body_is_refused_except_for_a_key_that_needs_nothing() {
    let caller = Caller::start().await;
    for (path, _) in writes(&caller).await {
        let answer = sent(caller.admin("POST", &path)).await;
        let needs_nothing = path.contains("service_accounts/") && path.ends_with("api_keys");
        assert_eq!(answer.status, if needs_nothing { 200 } else { 400 }, "{path}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_say_it_is_json_is_refused() {
    let caller = Caller::start().await;
    let request = caller.admin("POST", &caller.accounts()).header("Content-Type", "text/plain");
    let answer = sent(request.body(json!({"name": "n"}).to_string())).await;
    answer.refused(400, "unsupported_content_type", Value::Null);
}

#[tokio::test]
async fn a_body_above_one_mebibyte_is_refused() {
    let caller = Caller::start().await;
    let answer = caller.post(&caller.accounts(), json!({"name": "n".repeat(1024 * 1024)})).await;
    answer.refused(413, "request_too_large", Value::Null);
}

#[tokio::test]
async fn every_write_refuses_a_field_it_does_not_have() {
    let caller = Caller::start().await;
    for (path, body) in writes(&caller).await {
        let answer = caller.post(&path, with(&body, "description", "d")).await;
        answer.refused(400, "unknown_parameter", "description");
    }
}

#[tokio::test]
async fn every_name_has_to_be_a_text_that_is_not_empty() {
    let caller = Caller::start().await;
    for (path, body) in writes(&caller).await.into_iter().filter(|(_, body)| body.get("name").is_some()) {
        for wrong in [json!(7), json!(true), json!(["n"]), json!({})] {
            caller.post(&path, with(&body, "name", wrong)).await.refused(400, "invalid_type", "name");
        }
        caller.post(&path, with(&body, "name", "")).await.refused(400, "empty_string", "name");
    }
}

#[tokio::test]
async fn what_is_made_needs_a_name() {
    let caller = Caller::start().await;
    for path in ["/organization/admin_api_keys", "/organization/projects", &caller.accounts()] {
        caller.post(path, json!({})).await.refused(400, "missing_required_parameter", "name");
        caller.post(path, json!({"name": null})).await.refused(400, "invalid_type", "name");
    }
}

#[tokio::test]
async fn a_life_is_one_second_to_one_year() {
    let caller = Caller::start().await;
    let field = "expires_in_seconds";
    for (path, body) in mortal_writes(&caller).await {
        for (seconds, code) in [
            (json!(0), "integer_below_min_value"),
            (json!(-1), "integer_below_min_value"),
            (json!(LONGEST + 1), "integer_above_max_value"),
            (json!(u64::MAX), "integer_above_max_value"),
            (json!(1.5), "invalid_type"),
            (json!("60"), "invalid_type"),
        ] {
            caller.post(&path, with(&body, field, seconds)).await.refused(400, code, field);
        }
        let one = caller.post(&path, with(&body, field, LONGEST)).await.ok();
        let key = one.get("api_key").unwrap_or(&one);
        assert!(key["expires_at"].as_u64().unwrap() >= key["created_at"].as_u64().unwrap() + LONGEST);
    }
}

#[tokio::test]
async fn null_is_taken_for_an_end_only_where_the_schema_says_so() {
    let caller = Caller::start().await;
    for (path, body) in mortal_writes(&caller).await {
        let answer = caller.post(&path, with(&body, "expires_in_seconds", Value::Null)).await;
        if path.contains("service_accounts") {
            answer.ok();
        } else {
            answer.refused(400, "invalid_type", "expires_in_seconds");
        }
    }
}

#[tokio::test]
async fn scopes_are_a_list_of_texts_and_never_null() {
    let caller = Caller::start().await;
    let account = caller.account("scoped").await;
    let create = format!("{}/{}/api_keys", caller.accounts(), text(&account["id"]));
    let update = format!("{}/{}", caller.keys(), text(&account["api_key"]["id"]));
    for path in [create, update] {
        for wrong in [json!(null), json!("api.all.read"), json!([1]), json!([null]), json!({})] {
            caller.post(&path, json!({"scopes": wrong})).await.refused(400, "invalid_type", "scopes");
        }
        caller.post(&path, json!({"scopes": [""]})).await.refused(400, "empty_string", "scopes");
        caller.post(&path, json!({"scopes": []})).await.ok();
    }
}

#[tokio::test]
async fn an_account_without_a_key_takes_no_end_of_a_key() {
    let caller = Caller::start().await;
    let both = json!({"name": "n", "create_service_account_only": true, "expires_in_seconds": 60});
    caller.post(&caller.accounts(), both).await.refused(400, "invalid_value", "expires_in_seconds");
    let word = json!({"name": "n", "create_service_account_only": "yes"});
    caller.post(&caller.accounts(), word).await.refused(400, "invalid_type", "create_service_account_only");
    for only in [json!(null), json!(false)] {
        let body = json!({"name": "n", "create_service_account_only": only, "expires_in_seconds": 60});
        assert!(caller.post(&caller.accounts(), body).await.ok()["api_key"].is_object());
    }
    assert_eq!(caller.sim.state().created.accounts, 2);
}

#[tokio::test]
async fn words_outside_the_few_allowed_are_refused() {
    let caller = Caller::start().await;
    let account = format!("{}/{}", caller.accounts(), text(&caller.account("n").await["id"]));
    for role in ["none", "reader"] {
        caller.post(&account, json!({"role": role})).await.refused(400, "invalid_value", "role");
    }
    caller.post(&account, json!({"role": null})).await.refused(400, "invalid_type", "role");
    let moon = json!({"name": "n", "residency": "MOON"});
    caller.post("/organization/projects", moon).await.refused(400, "invalid_value", "residency");
}

#[tokio::test]
async fn changing_nothing_of_a_key_is_refused() {
    let caller = Caller::start().await;
    let key = format!("{}/{}", caller.keys(), text(&caller.account("n").await["api_key"]["id"]));
    caller.post(&key, json!({})).await.refused(400, "missing_required_parameter", Value::Null);
}

#[tokio::test]
async fn lists_refuse_limits_outside_their_range() {
    let caller = Caller::start().await;
    let lists =
        ["/organization/admin_api_keys", "/organization/projects", &caller.accounts(), &caller.keys()];
    for path in lists {
        for (limit, code) in [
            ("0", "integer_below_min_value"),
            ("-1", "integer_below_min_value"),
            ("101", "integer_above_max_value"),
            ("many", "invalid_type"),
            ("", "invalid_type"),
        ] {
            caller.get(&format!("{path}?limit={limit}")).await.refused(400, code, "limit");
        }
        caller.get(&format!("{path}?limit=100")).await.ok();
    }
}

#[tokio::test]
async fn query_parameters_that_a_call_does_not_have_are_refused() {
    let caller = Caller::start().await;
    let account = text(&caller.account("n").await["id"]);
    for path in
        [caller.accounts(), format!("{}/{account}", caller.accounts()), "/organization/costs".to_owned()]
    {
        let answer = caller.get(&format!("{path}?offset=1")).await;
        answer.refused(400, "unknown_parameter", "offset");
    }
    let twice = format!("{}?limit=1&limit=2", caller.accounts());
    caller.get(&twice).await.refused(400, "invalid_value", "limit");
    caller.get("/organization/admin_api_keys?order=up").await.refused(400, "invalid_value", "order");
    let access = format!("{}?owner_project_access=all", caller.keys());
    caller.get(&access).await.refused(400, "invalid_value", "owner_project_access");
    caller.get(&format!("{}?limit=%zz", caller.accounts())).await.refused(400, "invalid_value", "query");
}

#[tokio::test]
async fn a_cursor_that_never_was_an_id_is_refused() {
    let caller = Caller::start().await;
    for path in [&caller.accounts(), &caller.keys(), "/organization/admin_api_keys", "/organization/projects"]
    {
        caller.get(&format!("{path}?after=elsewhere")).await.refused(400, "invalid_value", "after");
    }
}

#[tokio::test]
async fn costs_refuse_times_and_groups_that_make_no_sense() {
    let caller = Caller::start().await;
    for (query, code, param) in [
        ("", "missing_required_parameter", "start_time"),
        ("start_time=soon", "invalid_type", "start_time"),
        ("start_time=-1", "integer_below_min_value", "start_time"),
        ("start_time=20&end_time=10", "invalid_value", "end_time"),
        ("start_time=1&end_time=2&limit=181", "integer_above_max_value", "limit"),
        ("start_time=1&end_time=2&bucket_width=1h", "invalid_value", "bucket_width"),
        ("start_time=1&end_time=2&group_by[]=user", "invalid_value", "group_by"),
        ("start_time=1&end_time=2&page=2", "invalid_value", "page"),
    ] {
        caller.get(&format!("/organization/costs?{query}")).await.refused(400, code, param);
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405() {
    let caller = Caller::start().await;
    for path in ["/organization", "/organization/projects/", "/nothing"] {
        caller.get(path).await.refused(404, Value::Null, Value::Null);
    }
    for method in ["PUT", "PATCH", "DELETE"] {
        let answer = sent(caller.admin(method, &caller.accounts())).await;
        answer.refused(405, "method_not_supported", Value::Null);
    }
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let caller = Caller::start().await;
    let account = text(&caller.account("n").await["id"]);
    let other = text(&caller.post("/organization/projects", json!({"name": "other"})).await.ok()["id"]);
    for path in [
        "/organization/projects/proj_no".to_owned(),
        "/organization/projects/proj_no/service_accounts".to_owned(),
        "/organization/admin_api_keys/key_no".to_owned(),
        format!("{}/svc_acct_no", caller.accounts()),
        format!("{}/key_no", caller.keys()),
        format!("/organization/projects/{other}/service_accounts/{account}"),
    ] {
        caller.get(&path).await.refused(404, "not_found", Value::Null);
    }
}

#[tokio::test]
async fn the_admin_api_takes_only_a_live_admin_key() {
    let caller = Caller::start().await;
    let path = caller.accounts();
    sent(caller.anonymous("GET", &path)).await.refused(401, Value::Null, Value::Null);
    let basic = caller.anonymous("GET", &path).header("Authorization", "Basic YTpi");
    sent(basic).await.refused(401, Value::Null, Value::Null);
    let wrong = sent(caller.with_key("sk-admin-wrong", "GET", &path)).await;
    wrong.refused(401, "invalid_api_key", Value::Null);
    assert!(!wrong.text("/error/message").contains("sk-admin-wrong"));
    let account_key = text(&caller.account("n").await["api_key"]["value"]);
    sent(caller.with_key(&account_key, "GET", &path)).await.refused(401, Value::Null, Value::Null);
    let made = caller
        .post("/organization/admin_api_keys", json!({"name": "n", "expires_in_seconds": 60}))
        .await
        .ok();
    let made = text(&made["value"]);
    assert_eq!(sent(caller.with_key(&made, "GET", &path)).await.status, 200);
    caller.sim.advance(Duration::from_secs(60));
    sent(caller.with_key(&made, "GET", &path)).await.refused(401, "invalid_api_key", Value::Null);
}

#[tokio::test]
async fn models_are_for_service_account_keys_only() {
    let caller = Caller::start().await;
    caller.get("/models").await.refused(401, Value::Null, Value::Null);
    sent(caller.anonymous("GET", "/models")).await.refused(401, Value::Null, Value::Null);
    let unknown = caller.with_key("sk-svcacct-unknown", "GET", "/models");
    sent(unknown).await.refused(401, "invalid_api_key", Value::Null);
}

#[tokio::test]
async fn the_organization_has_to_be_the_keys_own_where_it_is_named() {
    let caller = Caller::start().await;
    let unnamed = caller.with_key(caller.sim.admin_key(), "GET", &caller.accounts());
    assert_eq!(sent(unnamed).await.status, 200);
    let other = caller.with_key(caller.sim.admin_key(), "POST", &caller.accounts());
    let other = with_json(other.header("OpenAI-Organization", "org-other"), &json!({"name": "n"}));
    sent(other).await.refused(401, "mismatched_organization", Value::Null);
    assert_eq!(caller.sim.state().created.accounts, 0);
}

#[tokio::test]
async fn a_key_that_only_reads_changes_nothing() {
    let caller = Caller::start().await;
    caller.control("POST", "/permission", &json!({"reads_only": true})).await.ok();
    caller.get(&caller.accounts()).await.ok();
    let refused = caller.post(&caller.accounts(), json!({"name": "vault-app"})).await;
    refused.refused(401, Value::Null, Value::Null);
    assert!(refused.text("/error/message").contains("Missing scopes: api.management.write"));
    caller.control("POST", "/permission", &json!({"reads_only": false})).await.ok();
    caller.account("vault-app").await;
}

#[tokio::test]
async fn a_default_project_takes_no_account_and_one_elsewhere_no_call() {
    let caller = Caller::start().await;
    let project = caller.sim.project().to_owned();
    caller.control("POST", "/project", &json!({"id": project, "is_default": true})).await.ok();
    let refused = caller.post(&caller.accounts(), json!({"name": "vault-app"})).await;
    assert!(refused.status == 400 && refused.text("/error/message").contains("default project"));
    caller.control("POST", "/project", &json!({"id": project, "is_elsewhere": true})).await.ok();
    for path in [caller.accounts(), caller.keys(), format!("/organization/projects/{project}")] {
        caller.get(&path).await.refused(401, "incorrect_hostname", Value::Null);
    }
    caller.get("/organization/admin_api_keys").await.ok();
}
