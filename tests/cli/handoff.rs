//! Keys shared anew by the commands of operators, while static nodes are killed.

use std::time::Duration;

use serde_json::Value;

use crate::user::{Running, User, eventually};

/// What the static nodes say of vaults' keys; none if not all of them answer.
fn keys(user: &User) -> Option<Vec<Value>> {
    let ran = user.run(["--json", "static", "status"]);
    let rows = ran.rows();
    let all = rows.len() == 4 && rows.iter().all(|row| row["keys"].is_object());
    all.then(|| rows.iter().map(|row| row["keys"].clone()).collect())
}

/// A handoff takes a minute and more if one of those who take part was down at the wrong moment.
fn in_the_end(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1_800 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it did not come about: {what}");
}

/// All static nodes are asked whether anything is due, and whether each has its share of what is in effect.
#[test]
fn a_static_node_killed_at_any_moment_of_a_refresh_has_its_share_afterwards() {
    let user = User::with_key();
    drop(user.devnet());
    let mut statics: Vec<Option<Running>> = (1..=4).map(|nth| Some(user.static_node(nth))).collect();
    eventually("the static nodes agree", || user.run(["vault", "share"]).code == 0);
    let is_fine = |row: &Value| (row["vaults"] == 1) && row["due"] == 0 && row["without"] == 0;
    in_the_end("all have their shares", || keys(&user).is_some_and(|rows| rows.iter().all(is_fine)));
    // Before a part is dealt, and at moments about and after the one at which the new sharing comes into effect.
    for (round, millis) in [300, 2_500, 3_600, 5_000].into_iter().enumerate() {
        let file = format!("refresh-{round}");
        user.run(["static", "propose", "refresh", "--every-days", "90", "--out", &file]).ends(0);
        for nth in 1..=3 {
            let dir = format!("home/devnet/static-{nth}");
            user.run(["static", "approve", &file, "--dir", &dir]).ends(0);
        }
        user.run(["static", "submit", &file]).ends(0);
        std::thread::sleep(Duration::from_millis(millis));
        // Dropped is killed with -9.
        drop(statics[round].take());
        statics[round] = Some(user.static_node(round + 1));
        in_the_end("all have their shares again", || {
            keys(&user).is_some_and(|rows| rows.iter().all(is_fine))
        });
    }
    let doctor = user.run(["doctor"]);
    let says = "4 of the 4 static nodes that have the key answer, 3 are needed";
    assert!(doctor.text().contains(says), "{}", doctor.text());
    // A key that is shared once more by its owner is at all of them, too.
    let shared = user.run(["vault", "share"]).ends(0);
    assert!(
        shared.text().starts_with("the static nodes of now have the key, from block"),
        "{}",
        shared.text()
    );
    in_the_end("all have what the owner dealt", || keys(&user).is_some_and(|rows| rows.iter().all(is_fine)));
}
