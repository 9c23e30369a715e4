//! A copy of the Go plugin's storage from a real Vault: configuration, role and lease.
//!
//! `GO_PLUGIN=FILE UPDATE_GOLDEN=1 cargo test --test integration taken_over` renews the file.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Name of the role in the file and in the test on a real Vault.
pub(crate) const ROLE: &str = "team.app-1";

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/golden/predecessor.json")
}

/// Content of the file: `config`, `role` and `lease`.
pub(crate) fn stored() -> Value {
    let text = fs::read_to_string(file()).expect("the file exists");
    serde_json::from_str(&text).expect("the file is JSON")
}

/// Asserts that the file and `seen` have the same shape. With `UPDATE_GOLDEN`, writes `seen` to the file first.
pub(crate) fn assert_same_shape(seen: &Value) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = serde_json::to_string_pretty(seen).expect("a value serializes") + "\n";
        fs::write(file(), text).expect("the file is writable");
    }
    assert_eq!(shape(&stored()), shape(seen));
}

/// The value with a type name in place of each text and number.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), shape(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) | Value::Null => value.clone(),
    }
}
