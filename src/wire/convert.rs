//! Conversions: requests from protobuf; responses and special paths to protobuf. No I/O, and no interpretation of paths
//! or fields.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::logical::{Error, Lease, Operation, Request, Response, Secret, SpecialPaths, Storage};

use super::pb;
use super::value;

/// The longest accepted body of a request, in bytes. One thread serves all mounts, and parsing takes some milliseconds
/// per MiB. No write needs more. The server accepts 32 MiB.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Converts a request. An error fails this request only.
pub(super) fn request(
    message: pb::Request,
    storage: Arc<dyn Storage>,
    cancelled: CancellationToken,
) -> Result<Request, Error> {
    if message.data.len() > MAX_BODY_BYTES {
        let size = message.data.len();
        // An existence check precedes each write, and the server turns any other error of the check into a 500.
        return Err(Error::bad_request(format!(
            "the body must be at most {MAX_BODY_BYTES} bytes long, not {size}"
        )));
    }
    Ok(Request {
        operation: Operation::parse(&message.operation),
        data: value::data(&message.data).map_err(|error| malformed("data", error))?,
        secret: message.secret.map(secret).transpose()?,
        headers: value::headers(message.headers),
        id: message.id,
        path: message.path,
        mount_point: message.mount_point,
        client_token: message.client_token,
        client_token_accessor: message.client_token_accessor,
        display_name: message.display_name,
        entity_id: message.entity_id,
        storage,
        cancelled,
    })
}

/// Converts a lease as the server stored it.
fn secret(message: pb::Secret) -> Result<Secret, Error> {
    let lease = message.lease_options.unwrap_or_default();
    Ok(Secret {
        internal: value::data(&message.internal_data).map_err(|error| malformed("internal data", error))?,
        lease_id: message.lease_id,
        ttl: value::duration(lease.ttl),
        max_ttl: value::duration(lease.max_ttl),
        increment: value::duration(lease.increment),
        renewable: lease.renewable,
        issue_time: lease.issue_time.and_then(value::time),
    })
}

fn malformed(what: &str, error: value::NotAnObject) -> Error {
    Error::bad_request(format!("the server sent a malformed request: its {what} is {error}"))
}

/// Writes a response.
pub(super) fn response(response: Response) -> pb::Response {
    let Response { data, lease, warnings, headers } = response;
    pb::Response {
        secret: lease.map(lease_message),
        data: value::json(&data),
        warnings,
        headers: value::header_messages(headers),
    }
}

/// Converts a new lease. Both servers require an issue time and ignore its value (PROTOCOL 3.8).
fn lease_message(lease: Lease) -> pb::Secret {
    let Lease { internal, ttl, max_ttl, renewable } = lease;
    pb::Secret {
        lease_options: Some(pb::LeaseOptions {
            ttl: value::nanoseconds(ttl),
            renewable,
            increment: 0,
            issue_time: Some(value::ZERO_TIME),
            max_ttl: value::nanoseconds(max_ttl),
        }),
        internal_data: value::json(&internal),
        lease_id: String::new(),
    }
}

/// Converts special paths.
pub(super) fn special_paths(paths: SpecialPaths) -> pb::Paths {
    let SpecialPaths { root, unauthenticated, local_storage, seal_wrap_storage } = paths;
    pb::Paths { root, unauthenticated, local_storage, seal_wrap_storage }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use prost::Message;
    use prost_types::Timestamp;
    use serde_json::Value;

    use crate::logical::{Data, InMemory};

    use super::*;

    fn read(message: pb::Request) -> Result<Request, Error> {
        request(message, Arc::new(InMemory::new()), CancellationToken::new())
    }

    /// Any JSON value, except fractions without an exact decimal form.
    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i32>().prop_map(|halves| Value::from(f64::from(halves) / 2.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Data> {
        prop::collection::vec((any::<String>(), json_value()), 0..6)
            .prop_map(|fields| fields.into_iter().collect())
    }

    fn headers() -> impl Strategy<Value = HashMap<String, Vec<String>>> {
        prop::collection::hash_map("[A-Za-z-]{1,12}", prop::collection::vec(any::<String>(), 0..3), 0..4)
    }

    /// Encodes and decodes the message, as the server would receive it.
    fn over_the_wire<M: Message + Default>(message: &M) -> M {
        M::decode(message.encode_to_vec().as_slice()).unwrap()
    }

    proptest! {
        #[test]
        fn a_request_arrives_as_it_was_sent(
            data in object(),
            [id, path, mount_point, client_token] in any::<[String; 4]>(),
            headers in headers(),
        ) {
            let sent = pb::Request {
                data: serde_json::to_string_pretty(&data).unwrap(),
                headers: value::header_messages(headers.clone()),
                operation: "update".to_owned(),
                id: id.clone(), path: path.clone(), mount_point: mount_point.clone(),
                client_token: client_token.clone(),
                ..pb::Request::default()
            };
            let read = read(over_the_wire(&sent)).unwrap();
            prop_assert_eq!(read.data, data);
            prop_assert_eq!(read.headers, headers);
            prop_assert_eq!([read.id, read.path, read.mount_point, read.client_token], [id, path, mount_point, client_token]);
            prop_assert_eq!(read.operation, Operation::Update);
        }

        #[test]
        fn a_lease_comes_back_as_it_was_given(
            internal in object(),
            [ttl, max_ttl] in any::<[u32; 2]>(),
            renewable in any::<bool>(),
        ) {
            let [ttl, max_ttl] = [ttl, max_ttl].map(|seconds| Duration::from_secs(seconds.into()));
            let lease = Lease { internal: internal.clone(), ttl, max_ttl, renewable };
            let kept = over_the_wire(&response(Response::default().with_lease(lease))).secret.unwrap();
            prop_assert!(serde_json::from_str::<Option<Data>>(&kept.internal_data).is_ok());
            let revoke = pb::Request { operation: "revoke".to_owned(), secret: Some(kept), ..pb::Request::default() };
            let secret = read(over_the_wire(&revoke)).unwrap().secret.unwrap();
            prop_assert_eq!(secret.internal, internal);
            prop_assert_eq!((secret.ttl, secret.max_ttl, secret.renewable), (ttl, max_ttl, renewable));
        }

        #[test]
        fn a_responses_data_is_always_a_json_object_or_null(data in object(), warnings in any::<Vec<String>>()) {
            let answer = Response { data: data.clone(), warnings: warnings.clone(), ..Response::default() };
            let sent = over_the_wire(&response(answer));
            let read: Option<Data> = serde_json::from_str(&sent.data).unwrap();
            prop_assert_eq!(read.unwrap_or_default(), data);
            prop_assert_eq!(sent.warnings, warnings);
        }

        #[test]
        fn no_text_for_data_breaks_the_reading(data in any::<String>()) {
            let _either = read(pb::Request { data, ..pb::Request::default() });
        }

        #[test]
        fn no_bytes_break_the_reading(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = pb::Request::decode(bytes.as_slice()) {
                let _either = read(message);
            }
        }

        /// A valid message with some inserted bytes decodes more often than random bytes.
        #[test]
        fn no_bytes_in_a_request_break_the_reading(
            data in object(),
            headers in headers(),
            [ttl, increment, seconds] in any::<[i64; 3]>(),
            nanos: i32,
            at in any::<prop::sample::Index>(),
            bytes in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let options = pb::LeaseOptions {
                ttl, increment, renewable: true, max_ttl: ttl,
                issue_time: Some(Timestamp { seconds, nanos }),
            };
            let secret = pb::Secret {
                lease_options: Some(options),
                internal_data: serde_json::to_string(&data).unwrap(),
                ..pb::Secret::default()
            };
            let sent = pb::Request {
                data: serde_json::to_string(&data).unwrap(),
                headers: value::header_messages(headers),
                operation: "revoke".to_owned(),
                secret: Some(secret),
                ..pb::Request::default()
            };
            let _either = read(sent.clone());
            let mut encoded = sent.encode_to_vec();
            let at = at.index(encoded.len());
            encoded.splice(at..(at + bytes.len() / 2).min(encoded.len()), bytes);
            if let Ok(message) = pb::Request::decode(encoded.as_slice()) {
                let _either = read(message);
            }
        }
    }

    #[test]
    fn a_stored_lease_arrives_whole() {
        let secret = pb::Secret {
            lease_options: Some(pb::LeaseOptions {
                ttl: 3_600_000_000_000,
                renewable: true,
                increment: 60_000_000_000,
                issue_time: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
                max_ttl: 7_200_000_000_000,
            }),
            internal_data: r#"{"secret_type":"service_account"}"#.to_owned(),
            lease_id: "openai/creds/app/x".to_owned(),
        };
        let read = read(pb::Request { secret: Some(secret), ..pb::Request::default() }).unwrap();
        let secret = read.secret.unwrap();
        assert_eq!(secret.lease_id, "openai/creds/app/x");
        assert_eq!(secret.ttl, Duration::from_secs(3600));
        assert_eq!(secret.max_ttl, Duration::from_secs(7200));
        assert_eq!(secret.increment, Duration::from_secs(60));
        assert_eq!(secret.issue_time.unwrap().timestamp(), 1_700_000_000);
        assert_eq!(secret.internal["secret_type"], "service_account");
        assert!(secret.renewable);
    }

    #[test]
    fn a_lease_carries_the_time_that_servers_demand() {
        let lease = Lease {
            internal: Data::new(),
            ttl: Duration::from_secs(5),
            max_ttl: Duration::ZERO,
            renewable: false,
        };
        let sent = response(Response::default().with_lease(lease));
        let secret = sent.secret.unwrap();
        let options = secret.lease_options.unwrap();
        assert_eq!((options.ttl, options.issue_time), (5_000_000_000, Some(value::ZERO_TIME)));
        assert_eq!(secret.internal_data, "null");
    }

    #[test]
    fn malformed_internal_data_is_the_requests_own_fault() {
        let secret = pb::Secret { internal_data: "[1]".to_owned(), ..pb::Secret::default() };
        let error = read(pb::Request { secret: Some(secret), ..pb::Request::default() }).unwrap_err();
        assert!(error.message().contains("its internal data is not a JSON object"), "{error}");
    }
}
