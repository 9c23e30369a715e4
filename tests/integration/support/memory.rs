//! The memory of this process: what is allocated, to the byte, and what Linux gave it for that.

use std::alloc::System;

use cap::Cap;

/// Every allocation of this process, without a limit.
#[global_allocator]
static ALLOCATED: Cap<System> = Cap::new(System, usize::MAX);

/// The bytes that are allocated now, by Rust code.
pub(crate) fn live_bytes() -> u64 {
    ALLOCATED.allocated() as u64
}

/// The kilobytes of it that are resident, as Linux counts them, with what the allocator keeps for later; 0 elsewhere.
pub(crate) fn resident_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn what_is_allocated_is_counted() {
    let before = live_bytes();
    let held = vec![1_u8; 1 << 26];
    // Other tests run besides.
    assert!(live_bytes() > before + (1 << 25));
    drop(held);
}
