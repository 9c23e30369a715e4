//! The short form of `make torture`. It takes longer than any other test, nearly all of it waiting for ticks. Tests begin in
//! the order of their names, so here it waits beside the others.

use crate::torture::{SHORT, run};

#[tokio::test]
async fn short() {
    run(&SHORT).await.holds();
}
