//! Routing, fields, warnings, existence.

use proptest::prelude::*;

use super::*;
use crate::logical::Kind;

#[tokio::test]
async fn a_request_reaches_its_handler_with_typed_fields() {
    let mount = Mount::new();
    let sent = json!({"color": "red", "dries": "1h30m", "labels": "a, b"});
    for operation in [Operation::Create, Operation::Update, Operation::Patch] {
        let answer = mount.data(operation, "pots/a", sent.clone()).await;
        assert_eq!(
            answer,
            json!({
                "operation": format!("{operation:?}"), "name": "a", "color": "red", "dries": 5400,
                "dries_sent": 5400, "labels_sent": ["a", "b"], "liters": 1,
            })
        );
    }
}

#[tokio::test]
async fn a_default_fills_in_for_what_was_not_sent() {
    let mount = Mount::new();
    let answer = mount.data(Operation::Update, "pots/a", json!({"color": "red"})).await;
    assert_eq!((&answer["dries"], &answer["dries_sent"]), (&json!(3600), &Value::Null));
}

#[tokio::test]
async fn null_stands_for_a_fields_default_and_is_refused_where_there_is_none() {
    let mount = Mount::new();
    for operation in [Operation::Create, Operation::Update, Operation::Patch] {
        for (name, field) in [("dries", "dries"), ("drying_time", "dries")] {
            let answer = mount.data(operation, "pots/a", json!({"color": "red", name: null})).await;
            assert_eq!((&answer[field], &answer["dries_sent"]), (&json!(3600), &json!(3600)));
        }
        let answer = mount.data(operation, "pots/a", json!({"color": "red", "liters": null})).await;
        assert_eq!(answer["liters"], json!(1));
        for field in ["color", "labels", "wet", "code"] {
            let error = mount.refusal(operation, "pots/a", json!({field: null})).await;
            let expected = format!("Field validation failed: field {field:?} has no default");
            assert!(error.message().starts_with(&expected), "{error}");
        }
    }
    mount.data(Operation::Update, "pots/a", json!({"color": "red", "unheard_of": null})).await;
}

#[tokio::test]
async fn a_value_that_is_too_large_is_refused_before_it_is_read() {
    let mount = Mount::new();
    for (field, value, says) in [
        ("color", json!("x".repeat(4_097)), "color must be at most 4096 bytes long, not 4097"),
        ("labels", json!("x,".repeat(1_000) + "x"), "labels must name at most 1000 elements, not 1001"),
        ("labels", json!(vec!["x"; 100_000]), "labels must name at most 1000 elements, not 100000"),
        ("code", json!("1".repeat(5_000)), "code must be at most 4096 bytes long, not 5000"),
        ("dries", json!("1s".repeat(5_000)), "dries must be at most 4096 bytes long, not 10000"),
    ] {
        let error = mount.refusal(Operation::Update, "pots/a", json!({field: value})).await;
        assert_eq!(error.message(), format!("Field validation failed: {says}"));
    }
    let long = format!("pots/{}", "a".repeat(40_000));
    let error = mount.refusal(Operation::Update, &long, json!({})).await;
    assert!(error.message().ends_with("name must be at most 128 bytes long, not 40000"), "{error}");
}

#[tokio::test]
async fn a_name_that_storage_refuses_is_refused_by_its_field() {
    let mount = Mount::new();
    for operation in [Operation::Read, Operation::Update, Operation::Patch, Operation::Delete] {
        let error = mount.refusal(operation, "pots/a..b", json!({"color": "red"})).await;
        assert_eq!(error.kind(), Kind::BadRequest);
        assert!(error.message().contains("\"name\"") && error.message().contains("\"..\""), "{error}");
    }
}

#[tokio::test]
async fn a_missing_required_field_is_the_callers_fault() {
    let error = Mount::new().refusal(Operation::Update, "pots/a", json!({})).await;
    assert_eq!((error.kind(), error.message()), (Kind::BadRequest, "missing required field \"color\""));
}

#[tokio::test]
async fn an_older_name_is_read_unless_the_present_one_was_sent() {
    let mount = Mount::new();
    let sent = json!({"color": "red", "drying_time": "5m"});
    let answer = mount.ask(Operation::Update, "pots/a", sent).await.unwrap().unwrap();
    assert_eq!(answer.data["dries"], json!(300));
    assert_eq!(answer.warnings, [""; 0]);
    let sent = json!({"color": "red", "drying_time": "5m", "dries": 60});
    assert_eq!(mount.data(Operation::Update, "pots/a", sent).await["dries"], json!(60));
    let error = mount.refusal(Operation::Update, "pots/a", json!({"drying_time": "x"})).await;
    assert!(error.message().contains("input for field \"drying_time\""), "{error}");
}

#[tokio::test]
async fn an_invalid_value_is_refused_in_vaults_words() {
    let error = Mount::new().refusal(Operation::Update, "pots/a", json!({"liters": "x"})).await;
    assert_eq!(error.kind(), Kind::BadRequest);
    assert_eq!(
        error.message(),
        "Field validation failed: error converting input for field \"liters\": \
         cannot parse '' as int: strconv.ParseInt: parsing \"x\": invalid syntax"
    );
}

#[tokio::test]
async fn a_refused_secret_is_not_quoted() {
    let mount = Mount::new();
    for value in [json!("sesame"), json!(["sesame"])] {
        let error = mount.refusal(Operation::Update, "pots/a", json!({"code": value})).await;
        assert_eq!(
            error.message(),
            "Field validation failed: error converting input for field \"code\": it must be of type 'int'"
        );
    }
}

#[tokio::test]
async fn captured_values_win_with_a_warning() {
    let mount = Mount::new();
    let sent = json!({"color": "red", "name": "b", "zzz": 1, "aaa": 2});
    let answer = mount.ask(Operation::Update, "pots/a", sent).await.unwrap().unwrap();
    assert_eq!(answer.data["name"], json!("a"));
    assert_eq!(
        answer.warnings,
        [
            "Endpoint ignored these unrecognized parameters: [aaa zzz]",
            "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: \
             [name]",
        ]
    );
}

#[tokio::test]
async fn an_empty_answer_stays_empty_unless_a_write_sent_something_in_vain() {
    let mount = Mount::new();
    assert!(mount.ask(Operation::Update, "pots/a", json!({"color": "none"})).await.unwrap().is_none());
    assert!(mount.ask(Operation::Read, "pots/none", json!({"zzz": 1})).await.unwrap().is_none());
    let answer = mount.ask(Operation::Update, "pots/a", json!({"color": "none", "zzz": 1})).await.unwrap();
    assert_eq!(answer.unwrap().warnings, ["Endpoint ignored these unrecognized parameters: [zzz]"]);
}

#[tokio::test]
async fn lists_are_found_with_and_without_their_slash() {
    let mount = Mount::new();
    for path in ["pots/", "pots"] {
        assert_eq!(mount.data(Operation::List, path, Value::Null).await, json!({"keys": ["a"]}));
    }
}

#[tokio::test]
async fn what_no_path_matches_is_no_path() {
    let mount = Mount::new();
    for path in ["", "/", "pots/a/", "pots/-a", "pots/a/b", "nothing", "pots//", "/pots/a"] {
        let error = mount.refusal(Operation::Read, path, Value::Null).await;
        assert_eq!(error.kind(), Kind::UnsupportedPath, "{path}");
    }
    assert_eq!(mount.refusal(Operation::Help, "nothing", Value::Null).await.kind(), Kind::UnsupportedPath);
}

#[tokio::test]
async fn an_operation_that_a_path_lacks_is_unsupported() {
    let mount = Mount::new();
    for (operation, path) in [
        (Operation::Read, "pots/"),
        (Operation::Read, "pots"),
        (Operation::Delete, "lend/a"),
        (Operation::Patch, "lend/a"),
        (Operation::Header, "pots/a"),
        (Operation::Scan, "pots/"),
        (Operation::Other, "pots/a"),
        (Operation::ResolvePath, "pots/a"),
        (Operation::ResolvePath, "nothing"),
    ] {
        let error = mount.refusal(operation, path, Value::Null).await;
        assert_eq!(error.kind(), Kind::UnsupportedOperation, "{operation:?} {path}");
    }
    assert_eq!(mount.storage.calls(), logical::Calls::default());
}

#[tokio::test]
async fn an_engines_error_becomes_vaults() {
    let error = Mount::new().refusal(Operation::Delete, "pots/a", Value::Null).await;
    assert_eq!((error.kind(), error.message()), (Kind::BadRequest, "spilled"));
}

#[tokio::test]
async fn existence_is_answered_where_a_path_has_a_check() {
    let mount = Mount::new();
    let exists = async |path: &str| {
        let request = mount.request(Operation::Update, path, Value::Null);
        mount.backend.exists(request).await.unwrap()
    };
    assert_eq!(exists("pots/old").await, Some(true));
    assert_eq!(exists("pots/new").await, Some(false));
    assert_eq!(exists("lend/a").await, None);
    assert_eq!(exists("nothing").await, None);
}

#[tokio::test]
async fn an_existence_check_refuses_a_value_without_further_words() {
    let mount = Mount::new();
    let request = mount.request(Operation::Update, "pots/a", json!({"dries": "x"}));
    let error = mount.backend.exists(request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::BadRequest);
    assert_eq!(error.message(), "error converting input for field \"dries\": time: invalid duration \"x\"");
}

#[tokio::test]
async fn the_hooks_reach_the_engine() {
    let mount = Mount::new();
    mount.backend.initialize().await.unwrap();
    mount.backend.invalidate("pots/a");
    mount.backend.cleanup().await;
    assert_eq!(mount.toy.notes(), ["initialize", "invalidate pots/a", "cleanup"]);
    assert_eq!(mount.backend.special_paths().root, ["lend/*"]);
}

#[test]
#[should_panic(expected = "has no field \"name\"")]
fn a_capture_without_a_field_is_a_mistake() {
    build(vec![Path::new("pots/:name", Help::default())]);
}

#[test]
#[should_panic(expected = "has two fields \"drying_time\"")]
fn two_fields_of_a_name_are_a_mistake() {
    static TWIN: Field<String> = Field::new("drying_time", "");
    build(vec![Path::new("pots", Help::default()).field(&DRIES).field(&TWIN)]);
}

#[test]
#[should_panic(expected = "the default of field \"name\" is not of its kind")]
fn a_default_that_its_field_refuses_is_a_mistake() {
    static ODD: Field<Name> = Field::new("name", "").default("not a name");
    build(vec![Path::new("pots", Help::default()).field(&ODD)]);
}

fn build(paths: Vec<Path<Toy>>) {
    Backend::builder(Arc::new(Toy::default()), Arc::new(FixedSystem::default()), "").paths(paths).build();
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let words = ["create", "read", "update", "patch", "delete", "list", "help", "header", "revoke", "renew"];
    let rare = ["rollback", "rotate", "resolve-path", "scan", "brew"];
    prop::sample::select([&words[..], &rare[..]].concat()).prop_map(Operation::parse)
}

fn any_data() -> impl Strategy<Value = Data> {
    let key =
        prop::sample::select(vec!["name", "color", "dries", "drying_time", "labels", "liters", "code", "x"]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}|[0-9]{0,3}[smhd]".prop_map(Value::from),
    ];
    let list = prop::collection::vec(leaf.clone(), 0..3).prop_map(Value::from);
    prop::collection::vec((key, prop_oneof![leaf, list]), 0..6)
        .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

proptest! {
    #[test]
    fn no_request_makes_it_panic(
        operation in any_operation(),
        path in "\\PC{0,20}|(pots|lend)?/?[a-z.]{0,3}/?",
        data in any_data(),
    ) {
        let mount = Mount::new();
        let mut request = mount.request(operation, &path, Value::Null);
        request.data = data;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let answer = runtime.block_on(async {
            let existence = mount.backend.exists(request.clone()).await;
            (existence, mount.backend.handle(request).await)
        });
        for error in [answer.0.err(), answer.1.err()].into_iter().flatten() {
            prop_assert!(!error.message().is_empty());
        }
    }
}
