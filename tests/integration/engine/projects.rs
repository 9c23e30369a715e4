//! `project/:name`: checked at OpenAI, listed with its id, and not deleted while somebody uses it.

use serde_json::{Value, json};

use crate::simulator::{Action, Fault, endpoint};
use crate::support::Mount;
use crate::support::mount::PROJECT;

const PATH: &str = "project/research";

async fn mount() -> Mount {
    Mount::start().await.configured().await
}

#[tokio::test]
async fn it_is_checked_at_openai_stored_and_read_back() {
    let mount = mount().await;
    let body = json!({"project_id": mount.sim.project(), "description": "Research"});
    mount.write(PATH, body.clone()).await.nothing();
    assert_eq!(mount.sim.calls(endpoint::READ_PROJECT), 1);
    assert_eq!(mount.read(PATH).await.json(), body);
}

#[tokio::test]
async fn one_that_openai_does_not_know_is_refused() {
    let mount = mount().await;
    mount
        .write(PATH, json!({"project_id": "proj_nowhere"}))
        .await
        .refused("project not found: project_id proj_nowhere");
    mount.read(PATH).await.nothing();
    assert_eq!(mount.stored("project/"), Vec::<String>::new());
}

#[tokio::test]
async fn an_archived_one_is_refused() {
    let mount = mount().await;
    mount.sim.archive_project(mount.sim.project());
    let body = json!({"project_id": mount.sim.project()});
    let answered = mount.write(PATH, body).await;
    answered.refused("project_id");
    answered.refused("archived");
    mount.read(PATH).await.nothing();
}

#[tokio::test]
async fn its_id_is_required_and_must_look_like_one() {
    let mount = mount().await;
    mount.write(PATH, json!({})).await.refused("missing required field \"project_id\"");
    for odd in [json!(""), json!("../x"), json!("a/b"), json!("a b"), json!(["x"]), json!("x".repeat(300))] {
        mount.write(PATH, json!({"project_id": odd})).await.refused("project_id");
    }
    assert_eq!(mount.sim.calls(endpoint::READ_PROJECT), 0);
}

#[tokio::test]
async fn a_change_of_the_description_asks_openai_nothing() {
    let mount = mount().await.with_project().await;
    mount.write(PATH, json!({"description": "one"})).await.done();
    mount.patch(PATH, json!({"description": "two"})).await.done();
    let read = mount.read(PATH).await.json();
    assert_eq!(read, json!({"project_id": mount.sim.project(), "description": "two"}));
    mount.write(PATH, read.clone()).await.nothing();
    assert_eq!(mount.read(PATH).await.json(), read);
    assert_eq!(mount.sim.calls(endpoint::READ_PROJECT), 1);
}

#[tokio::test]
async fn an_openai_that_cannot_tell_is_no_verdict() {
    let mount = mount().await;
    mount.sim.fault(Fault::on(endpoint::READ_PROJECT, Action::Html));
    let body = json!({"project_id": mount.sim.project()});
    let answered = mount.write(PATH, body.clone()).await;
    assert!(!answered.error().message().contains("project not found"), "{}", answered.error());
    mount.sim.clear_faults();
    mount.write(PATH, body).await.nothing();
}

#[tokio::test]
async fn it_is_not_deleted_while_a_role_uses_it() {
    let mount = mount().await.with_project().await.with_role(json!({})).await;
    let answered = mount.delete(PATH).await;
    answered.refused("project has roles that use it, cannot delete");
    answered.refused("role app");
    mount.delete("roles/app").await.nothing();
    mount.delete(PATH).await.nothing();
    mount.delete(PATH).await.nothing();
    mount.read(PATH).await.nothing();
}

#[tokio::test]
async fn a_role_and_a_deletion_at_once_never_leave_a_role_without_its_project() {
    let mount = mount().await;
    for _ in 0..50 {
        mount.write(PATH, json!({"project_id": mount.sim.project()})).await.done();
        let (role, deletion) =
            tokio::join!(mount.write("roles/app", json!({"project": PROJECT})), mount.delete(PATH));
        assert_ne!(role.answer.is_ok(), deletion.answer.is_ok(), "{role:?} {deletion:?}");
        mount.delete("roles/app").await.done();
    }
}

#[tokio::test]
async fn the_list_tells_names_in_order_and_ids() {
    let mount = mount().await;
    assert_eq!(mount.list("project").await.keys(), Vec::<String>::new());
    for name in ["b", "a.b", "A", "a-1"] {
        mount.write(&format!("project/{name}"), json!({"project_id": mount.sim.project()})).await.done();
    }
    let list = mount.list("project").await;
    assert_eq!(list.keys(), ["A", "a-1", "a.b", "b"]);
    let info = &list.json()["key_info"];
    assert_eq!(info["a.b"]["project_id"], mount.sim.project());
    assert_eq!(info.as_object().map(serde_json::Map::len), Some(4));
}

#[tokio::test]
async fn what_is_no_name_is_no_path() {
    let mount = mount().await;
    for name in ["-a", "a-", ".a", "a/b", "a b", "ä", "..", "a\n", "a%2fb"] {
        let answered = mount.write(&format!("project/{name}"), json!({"project_id": "proj_1"})).await;
        assert_eq!(answered.status(), 404, "{name:?}: {answered:?}");
    }
}

#[tokio::test]
async fn an_unknown_field_gets_the_usual_warning() {
    let mount = mount().await;
    let body = json!({"project_id": mount.sim.project(), "desription": "typo"});
    let answered = mount.write(PATH, body).await;
    assert_eq!(answered.warnings(), ["Endpoint ignored these unrecognized parameters: [desription]"]);
}

#[tokio::test]
async fn existence_decides_between_create_and_update() {
    let mount = mount().await;
    assert_eq!(mount.exists(PATH).await.unwrap(), Some(false));
    assert_eq!(mount.patch(PATH, json!({"description": "x"})).await.status(), 404);
    let mount = mount.with_project().await;
    assert_eq!(mount.exists(PATH).await.unwrap(), Some(true));
}

#[tokio::test]
async fn a_write_that_storage_refuses_changes_nothing() {
    let mount = mount().await.with_project().await;
    let before = mount.read(PATH).await.json();
    mount.storage.fail_put("project/");
    let change: Value = json!({"description": "new"});
    assert_eq!(mount.write(PATH, change).await.status(), 500);
    assert_eq!(mount.read(PATH).await.json(), before);
    mount.storage.fail_delete("project/");
    assert_eq!(mount.delete(PATH).await.status(), 500);
    assert_eq!(mount.read(PATH).await.json(), before);
}
