//! Memory of this process: bytes that Rust code has allocated, and resident memory.

use std::alloc::System;

use cap::Cap;

/// Counts every allocation of this process.
#[global_allocator]
static ALLOCATED: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes that Rust code has allocated.
pub(crate) fn live_bytes() -> u64 {
    ALLOCATED.allocated() as u64
}

/// Resident memory in kilobytes, including memory that the allocator keeps; 0 outside Linux.
pub(crate) fn resident_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn what_is_allocated_is_counted() {
    let before = live_bytes();
    let held = vec![1_u8; 1 << 26];
    // Other tests run at the same time.
    assert!(live_bytes() > before + (1 << 25));
    drop(held);
}
