//! Many who read the same at once: what it costs them in writes of storage, and what is left when the engine ends in it.

use openai_secrets::engine::failpoint::Trap;

use super::steps::Step;
use super::world::World;

const CROWD: usize = 64;
const PATH: &str = "creds/plain";

#[tokio::test]
async fn a_credential_of_a_crowd_is_hardly_more_than_one_write() {
    let mut world = World::begin().await;
    let before = world.storage.calls();
    for _ in 0..10 {
        world.read_at_once(PATH, CROWD, None).await.expect("nothing ends here");
    }
    let after = world.storage.calls();
    let (made, writes) = (world.leases.len(), after.puts + after.deletes - before.puts - before.deletes);
    println!("{made} credentials, {writes} writes");
    assert_eq!(made, CROWD * 10);
    assert!(writes * 10 < made * 11, "{writes} writes");
}

#[tokio::test]
async fn of_a_crowd_cut_off_in_the_middle_what_was_answered_stays_and_nothing_else() {
    for point in ["creds.joined", "creds.made", "creds.recorded"] {
        let mut world = World::begin().await;
        let trap = Trap::at(point, CROWD as u32 / 2);
        assert!(world.read_at_once(PATH, CROWD, Some(&trap)).await.is_none(), "{point}");
        world.nothing_is_lost();
        world.restart().await;
        world.tick(None).await.expect("it goes on").expect("the tick succeeds");
        // What was recorded in the moment of the end goes with its own end.
        world.settles().await;
    }
}

#[tokio::test]
async fn what_one_mount_answered_with_is_no_matter_of_the_other_mount_in_the_process() {
    let mut here = World::begin().await;
    let mut there = here.beside().await;
    for world in [&mut here, &mut there] {
        assert!(Step::Read("plain").take(world, None).await);
    }
    for world in [&mut here, &mut there] {
        world.tick(None).await.expect("it goes on").expect("the tick succeeds");
        world.everything_has_an_owner();
        world.settles().await;
    }
}
