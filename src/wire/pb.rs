//! The messages and services that `build.rs` makes of `proto/`. Nothing outside [`super`] names them.

pub(super) use generated::logical;
pub(super) use generated::multiplexing;
pub(super) use generated::pb::*;

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    dead_code,
    clippy::all,
    clippy::pedantic,
    reason = "generated: both sides of every service, of which tests use what the plugin does not"
)]
mod generated {
    pub mod pb {
        tonic::include_proto!("pb");
    }
    /// `pb` names this module by its package.
    pub mod logical {
        tonic::include_proto!("logical");
    }
    pub mod multiplexing {
        tonic::include_proto!("pluginutil.multiplexing");
    }
}
