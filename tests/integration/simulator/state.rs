//! What the simulator remembers: accounts, keys, ends, projects, policy, pages, counters.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Caller, text};
use crate::simulator::{Policy, Tally, endpoint};

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|item| text(&item["id"])).collect()
}

#[tokio::test]
async fn a_key_works_until_its_account_is_deleted() {
    let caller = Caller::start().await;
    let account = caller.account("app").await;
    let value = text(&account["api_key"]["value"]);
    assert!(value.starts_with("sk-svcacct-"));
    assert!(caller.opens(&value).await);
    let path = format!("{}/{}", caller.accounts(), text(&account["id"]));
    assert_eq!(caller.delete(&path).await.ok()["deleted"], true);
    assert!(!caller.opens(&value).await);
    caller.delete(&path).await.refused(404, "not_found", Value::Null);
    let state = caller.sim.state();
    assert_eq!(state.created, Tally { accounts: 1, keys: 1, admin_keys: 0 });
    assert_eq!(state.deleted, state.created);
}

#[tokio::test]
async fn a_deleted_key_leaves_the_account_and_its_other_keys() {
    let caller = Caller::start().await;
    let account = caller.account("app").await;
    let more = format!("{}/{}/api_keys", caller.accounts(), text(&account["id"]));
    let second = caller.post(&more, json!({"name": "second"})).await.ok();
    caller.delete(&format!("{}/{}", caller.keys(), text(&account["api_key"]["id"]))).await.ok();
    assert!(!caller.opens(&text(&account["api_key"]["value"])).await);
    assert!(caller.opens(&text(&second["value"])).await);
    assert_eq!(ids(&caller.get(&caller.keys()).await.ok()), [text(&second["id"])]);
}

#[tokio::test]
async fn a_key_is_dead_from_the_second_it_expires_and_stays_so() {
    let caller = Caller::start().await;
    let account =
        caller.post(&caller.accounts(), json!({"name": "app", "expires_in_seconds": 60})).await.ok();
    let value = text(&account["api_key"]["value"]);
    caller.sim.advance(Duration::from_secs(30));
    assert!(caller.opens(&value).await && caller.sim.state().is_live(&value));
    caller.sim.advance(Duration::from_secs(30));
    assert!(!caller.opens(&value).await && !caller.sim.state().is_live(&value));
    let key = format!("{}/{}", caller.keys(), text(&account["api_key"]["id"]));
    for change in [json!({"expires_in_seconds": 60}), json!({"scopes": []})] {
        caller.post(&key, change).await.refused(400, "api_key_expired", Value::Null);
    }
    assert_eq!(caller.sim.state().deleted, Tally::default());
}

#[tokio::test]
async fn scopes_and_end_of_a_key_are_saved_together_or_not_at_all() {
    let caller = Caller::start().await;
    let account = caller.account("app").await;
    let key = format!("{}/{}", caller.keys(), text(&account["api_key"]["id"]));
    let half_wrong = json!({"scopes": ["api.all.read"], "expires_in_seconds": 0});
    caller.post(&key, half_wrong).await.refused(400, "integer_below_min_value", "expires_in_seconds");
    let kept = |caller: &Caller| caller.sim.state().accounts[0].keys[0].clone();
    assert_eq!((kept(&caller).scopes, kept(&caller).expires_at), (vec![], None));
    let changed = caller.post(&key, json!({"scopes": ["api.all.read"], "expires_in_seconds": 9})).await.ok();
    assert!(changed.get("value").is_none());
    assert_eq!(kept(&caller).scopes, ["api.all.read"]);
    assert_eq!(kept(&caller).expires_at, changed["expires_at"].as_u64());
    caller.post(&key, json!({"scopes": []})).await.ok();
    assert_eq!(kept(&caller).expires_at, changed["expires_at"].as_u64());
}

#[tokio::test]
async fn an_archived_project_has_no_accounts_and_takes_none() {
    let caller = Caller::start().await;
    let account = caller.account("app").await;
    let project = format!("/organization/projects/{}", caller.sim.project());
    assert_eq!(caller.post(&format!("{project}/archive"), json!({})).await.ok()["status"], "archived");
    assert!(!caller.opens(&text(&account["api_key"]["value"])).await);
    let one = format!("{}/{}", caller.accounts(), text(&account["id"]));
    for answer in [
        caller.post(&caller.accounts(), json!({"name": "late"})).await,
        caller.post(&format!("{one}/api_keys"), json!({})).await,
        caller.get(&caller.accounts()).await,
        caller.delete(&one).await,
        caller.post(&project, json!({"name": "n"})).await,
    ] {
        answer.refused(400, "project_archived", Value::Null);
    }
    assert_eq!(caller.get(&project).await.ok()["status"], "archived");
}

#[tokio::test]
async fn a_policy_demands_an_end_and_caps_it_for_every_kind_of_key() {
    let caller = Caller::start().await;
    let account = caller.account("app").await;
    let more = format!("{}/{}/api_keys", caller.accounts(), text(&account["id"]));
    let update = format!("{}/{}", caller.keys(), text(&account["api_key"]["id"]));
    let (required, too_long, field) =
        ("api_key_expiration_required", "api_key_expiration_too_long", "expires_in_seconds");
    caller.sim.policy(Policy { expiry_required: true, ..Policy::default() });
    caller.post(&caller.accounts(), json!({"name": "n"})).await.refused(400, required, field);
    caller.post(&more, json!({"expires_in_seconds": null})).await.refused(400, required, field);
    caller.sim.policy(Policy { max_lifetime: Some(60), ..Policy::default() });
    caller.post(&more, json!({})).await.refused(400, required, field);
    for (path, mut body) in
        [(caller.accounts(), json!({"name": "n"})), (more, json!({})), (update, json!({}))]
    {
        body[field] = json!(61);
        caller.post(&path, body.clone()).await.refused(400, too_long, field);
        body[field] = json!(60);
        caller.post(&path, body).await.ok();
    }
    let bare = json!({"name": "n", "create_service_account_only": true});
    caller.post(&caller.accounts(), bare).await.ok();
}

#[tokio::test]
async fn plain_names_can_be_demanded() {
    let caller = Caller::start().await;
    caller.account("a name with spaces").await;
    caller.sim.policy(Policy { plain_names: true, ..Policy::default() });
    for name in ["ab", "a name", "ünicode", &"n".repeat(65)] {
        caller.post(&caller.accounts(), json!({"name": name})).await.refused(400, "invalid_value", "name");
    }
    caller.account(&"n".repeat(64)).await;
}

#[tokio::test]
async fn pages_tell_where_they_end_and_whether_more_follows() {
    let caller = Caller::start().await;
    let mut made = Vec::new();
    for name in ["one", "two", "three"] {
        made.push(text(&caller.account(name).await["id"]));
    }
    let first = caller.get(&format!("{}?limit=2", caller.accounts())).await.ok();
    assert_eq!(ids(&first), made[..2]);
    assert_eq!((&first["first_id"], &first["last_id"]), (&json!(made[0]), &json!(made[1])));
    assert_eq!(first["has_more"], true);
    let second = caller.get(&format!("{}?limit=2&after={}", caller.accounts(), made[1])).await.ok();
    assert_eq!((ids(&second), &second["has_more"]), (vec![made[2].clone()], &json!(false)));
    let last = caller.get(&format!("{}?after={}", caller.accounts(), made[2])).await.ok();
    assert_eq!((ids(&last).len(), &last["first_id"], &last["last_id"]), (0, &Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_page_goes_on_after_an_account_that_was_deleted_meanwhile() {
    let caller = Caller::start().await;
    let first = text(&caller.account("one").await["id"]);
    let second = text(&caller.account("two").await["id"]);
    caller.delete(&format!("{}/{first}", caller.accounts())).await.ok();
    let rest = caller.get(&format!("{}?after={first}", caller.accounts())).await.ok();
    assert_eq!(ids(&rest), [second]);
}

#[tokio::test]
async fn keys_of_owners_without_access_are_listed_on_demand() {
    let caller = Caller::start().await;
    let bare = json!({"name": "bare", "create_service_account_only": true});
    let bare =
        format!("{}/{}", caller.accounts(), text(&caller.post(&caller.accounts(), bare).await.ok()["id"]));
    let hidden = text(&caller.post(&format!("{bare}/api_keys"), json!({})).await.ok()["id"]);
    let shown = text(&caller.account("member").await["api_key"]["id"]);
    let list = |access: &'static str| format!("{}{access}", caller.keys());
    assert_eq!(ids(&caller.get(&list("")).await.ok()), vec![shown.clone()]);
    let inactive = caller.get(&list("?owner_project_access=inactive")).await.ok();
    assert_eq!(
        (ids(&inactive), &inactive["data"][0]["owner_project_access"]),
        (vec![hidden.clone()], &json!("inactive"))
    );
    assert_eq!(
        ids(&caller.get(&list("?owner_project_access=any")).await.ok()),
        [hidden.clone(), shown.clone()]
    );
    caller.post(&bare, json!({"role": "member"})).await.ok();
    assert_eq!(ids(&caller.get(&list("")).await.ok()), [hidden, shown]);
}

#[tokio::test]
async fn the_own_admin_key_is_found_by_its_redacted_value_and_can_belong_to_an_account() {
    let caller = Caller::start().await;
    let account = text(&caller.account("owner").await["id"]);
    caller.sim.own_admin_keys(&account);
    let listed = caller.get("/organization/admin_api_keys").await.ok();
    let (key, own) = (&listed["data"][0], caller.sim.admin_key());
    let redacted = text(&key["redacted_value"]);
    let (start, end) = redacted.split_once("...").unwrap();
    assert!(own.starts_with(start) && own.ends_with(end) && redacted != own);
    assert_eq!((&key["owner"]["type"], &key["owner"]["id"]), (&json!("service_account"), &json!(account)));
    assert!(key["last_used_at"].is_u64());
}

#[tokio::test]
async fn a_deleted_admin_key_lets_nobody_in_not_even_the_one_who_deleted_it() {
    let caller = Caller::start().await;
    let own = caller.sim.state().admin_keys[0].id.clone();
    caller.delete(&format!("/organization/admin_api_keys/{own}")).await.ok();
    caller.get(&caller.accounts()).await.refused(401, "invalid_api_key", Value::Null);
    assert_eq!(caller.sim.state().deleted.admin_keys, 1);
}

#[tokio::test]
async fn calls_are_counted_by_endpoint_and_status_and_logged_in_order() {
    let caller = Caller::start().await;
    caller.account("one").await;
    caller.post(&caller.accounts(), json!({})).await.refused(400, "missing_required_parameter", "name");
    caller.get("/nowhere").await.refused(404, Value::Null, Value::Null);
    let state = caller.sim.state();
    assert_eq!(state.answered(endpoint::CREATE_ACCOUNT, 200), 1);
    assert_eq!(state.answered(endpoint::CREATE_ACCOUNT, 400), 1);
    assert_eq!(state.calls(endpoint::NONE), 1);
    assert_eq!((state.all_calls(), caller.sim.calls(endpoint::CREATE_ACCOUNT)), (3, 2));
    let log: Vec<u16> = caller.sim.log().iter().map(|call| call.status).collect();
    assert_eq!(log, [200, 400, 404]);
}

#[tokio::test]
async fn what_was_there_before_can_be_made_and_everything_undone() {
    let caller = Caller::start().await;
    let seeded = caller.sim.seed_account(caller.sim.project(), "lib-1", true).unwrap();
    assert!(caller.opens(&seeded.key.unwrap().1).await);
    assert_eq!(caller.sim.state().account(&seeded.id).unwrap().name, "lib-1");
    assert!(caller.sim.seed_account("proj_no", "lib-1", false).is_err());
    caller.sim.latency(Duration::from_secs(3600));
    caller.sim.reset();
    assert_eq!(caller.sim.state().accounts, []);
    assert_eq!(caller.sim.state().all_calls(), 0);
    caller.account("after").await;
}

#[tokio::test]
async fn what_is_spent_shows_in_the_costs_of_its_project_and_day() {
    let caller = Caller::start().await;
    caller.sim.spend(caller.sim.project(), 2.5);
    caller.sim.spend("proj_other", 1.0);
    let start = caller.sim.state().now - 86_400;
    let sum = |page: &Value| {
        let buckets = page["data"].as_array().unwrap().iter();
        let results = buckets.flat_map(|bucket| bucket["results"].as_array().unwrap());
        results.map(|result| result["amount"]["value"].as_f64().unwrap()).sum::<f64>()
    };
    let all = caller.get(&format!("/organization/costs?start_time={start}")).await.ok();
    let mine = format!("/organization/costs?start_time={start}&project_ids[]={}", caller.sim.project());
    let mine = caller.get(&mine).await.ok();
    assert!((sum(&all) - 3.5).abs() < 1e-9 && (sum(&mine) - 2.5).abs() < 1e-9);
}

#[tokio::test]
async fn every_control_works_over_http_and_refuses_what_it_does_not_know() {
    let caller = Caller::start().await;
    let project = caller.sim.project().to_owned();
    let made = caller
        .control("POST", "/accounts", &json!({"project": project, "name": "n", "with_key": true}))
        .await;
    let (id, value) = (made.text("/id"), made.text("/key/value"));
    caller.control("POST", "/policy", &json!({"expiry_required": true})).await.ok();
    caller.account_refused().await;
    caller.control("POST", "/clock", &json!({"advance_ms": 5000})).await.ok();
    let key = caller.sim.state().admin_keys[0].id.clone();
    caller.control("POST", "/owner", &json!({"admin_key_id": key, "service_account_id": id})).await.ok();
    caller.control("POST", "/costs", &json!({"project": project, "amount": 1.5})).await.ok();
    let state = caller.control("GET", "/state", &Value::Null).await.ok();
    assert_eq!(
        state["accounts"][0]["keys"][0],
        json!({
            "id": state["accounts"][0]["keys"][0]["id"], "name": "Secret Key", "value": value,
            "scopes": [], "expires_at": null, "live": true,
        })
    );
    assert_eq!(state["calls"][endpoint::CREATE_ACCOUNT], json!({"400": 1}));
    assert_eq!(caller.control("GET", "/calls", &Value::Null).await.ok()[0]["status"], 400);
    caller.control("POST", "/reset", &Value::Null).await.ok();
    assert_eq!(caller.sim.state().accounts, []);
    for (path, body) in
        [("/latency", json!({"seconds": 1})), ("/faults", json!({"action": {"kind": "fire"}}))]
    {
        assert_eq!(caller.control("POST", path, &body).await.status, 400);
    }
    assert_eq!(caller.control("GET", "/nothing", &Value::Null).await.status, 404);
}

impl Caller {
    async fn account_refused(&self) {
        let answer = self.post(&self.accounts(), json!({"name": "n"})).await;
        answer.refused(400, "api_key_expiration_required", "expires_in_seconds");
    }
}
