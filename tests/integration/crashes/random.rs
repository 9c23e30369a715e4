//! Steps in any order, and an end at whatever point comes: again and again, each round from a seed that is printed.

use std::env;

use openai_secrets::engine::failpoint::Trap;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::steps::STORY;
use super::world::World;

/// How many rounds there are, and the seed of the first; the next is one more.
const ROUNDS: &str = "CRASH_ROUNDS";
const SEED: &str = "CRASH_SEED";
const STEPS: usize = 30;

/// A million steps.
const MANY_ROUNDS: u64 = 33_334;

#[tokio::test]
async fn the_engine_may_end_anywhere_in_any_order() {
    live_through(number(ROUNDS).unwrap_or(20)).await;
}

#[tokio::test]
#[ignore = "takes hours"]
async fn the_engine_may_end_anywhere_in_a_million_steps() {
    live_through(number(ROUNDS).unwrap_or(MANY_ROUNDS)).await;
}

async fn live_through(rounds: u64) {
    let (first, mut ends) = (number(SEED).unwrap_or_else(rand::random), 0);
    for seed in (0..rounds).map(|round| first.wrapping_add(round)) {
        // Shown when the round fails: the seed brings it back.
        println!("{SEED}={seed}");
        ends += round(&mut StdRng::seed_from_u64(seed)).await;
    }
    println!("{rounds} rounds from {SEED}={first}: the engine ended {ends} times");
    assert!(rounds < 10 || ends > 0, "no round came to a point");
}

/// How often the engine ended.
async fn round(dice: &mut StdRng) -> usize {
    let (mut world, mut ends) = (World::begin().await, 0);
    for _ in 0..STEPS {
        let step = STORY[dice.random_range(0..STORY.len())];
        let trap = dice.random_bool(0.4).then(|| Trap::after(dice.random_range(0..5)));
        if !step.take(&mut world, trap.as_ref()).await {
            let point = trap.and_then(|trap| trap.caught());
            println!("  {step:?} ended at {point:?}");
            ends += 1;
            world.restart().await;
        }
        world.nothing_is_lost();
    }
    world.settles().await;
    ends
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}
