//! Replicas that applied the same entry have the same hash.

use std::collections::BTreeMap;

use crate::facts::Fact;

pub fn check(history: &[Fact]) -> Result<(), String> {
    let mut hashes = BTreeMap::new();
    let mut positions = BTreeMap::new();
    for fact in history {
        let Fact::Applied {
            replica,
            index,
            now,
            hash,
            ..
        } = fact
        else {
            continue;
        };
        let first = *hashes.entry(*index).or_insert((*now, *hash));
        if first != (*now, *hash) {
            return Err(format!(
                "at index {index}: {first:?} on one replica, {now}, {hash} on replica {replica}"
            ));
        }
        let before = positions.insert(*replica, *index);
        if before >= Some(*index) {
            return Err(format!("replica {replica} applied {index} after {before:?}"));
        }
    }
    Ok(())
}

#[test]
fn is_proved_by_bad_histories() {
    use super::by_hand::prove;
    let applied = |replica, index, now, hash| Fact::Applied {
        replica,
        index,
        now,
        hash,
    };
    prove(
        check,
        &[
            applied(1, 1, 5, 10),
            applied(1, 2, 6, 11),
            applied(2, 1, 5, 10),
            applied(2, 2, 6, 11),
        ],
        &[
            &[applied(1, 1, 5, 10), applied(2, 1, 5, 11)],
            &[applied(1, 1, 5, 10), applied(2, 1, 6, 10)],
            &[applied(1, 2, 5, 10), applied(1, 1, 5, 10)],
        ],
    );
}
