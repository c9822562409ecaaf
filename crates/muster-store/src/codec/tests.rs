//! Round trips, versions, hostile bytes.

use muster_core::*;
use proptest::prelude::*;

use super::*;
use crate::{Error, samples};

#[test]
fn every_sample_comes_back() {
    let batch = samples::batch();
    assert_eq!(decode_batch(&encode_batch(&batch).unwrap()).unwrap(), batch);
    for (name, row) in samples::rows() {
        assert_eq!(decode_row(&encode_row(&row).unwrap()).unwrap(), row, "{name}");
        assert_eq!(decode_key(&encode_key(&row.key())).unwrap(), row.key(), "{name}");
    }
    let job = samples::job(1, 2);
    assert_eq!(decode_job(&encode_job(&job).unwrap()).unwrap(), job);
}

#[test]
fn a_large_batch_is_packed_and_a_small_one_is_not() {
    let packed = encode_batch(&samples::batch()).unwrap();
    assert_eq!(packed[1], 1);
    let small = Batch {
        stamped_at: 1,
        commands: vec![Command::Tick],
    };
    assert_eq!(encode_batch(&small).unwrap()[1], 0);
}

#[test]
fn an_encoded_batch_takes_no_more_memory_than_it_counts() {
    // Packed, it needs a fraction of what packing might have needed; plain, less than a buffer that grew by doubling.
    let plain = Batch {
        stamped_at: 1,
        commands: vec![Command::Tick; 600],
    };
    for batch in [samples::batch(), plain] {
        let bytes = encode_batch(&batch).unwrap();
        let counted = bytes.len();
        let taken = Vec::from(bytes).capacity();
        assert!(taken <= counted + counted / 4, "{taken} bytes for {counted}");
    }
}

#[test]
fn an_unknown_version_names_both() {
    let mut bytes = encode_batch(&samples::batch()).unwrap().to_vec();
    bytes[0] = 9;
    assert!(matches!(
        decode_batch(&bytes),
        Err(Error::UnknownVersion {
            found: 9,
            newest: 1,
            ..
        })
    ));
    let mut bytes = encode_job(&samples::job(1, 2)).unwrap();
    bytes[0] = 2;
    assert!(matches!(
        decode_job(&bytes),
        Err(Error::UnknownVersion {
            found: 2,
            newest: 1,
            ..
        })
    ));
    let row = &samples::rows()[0].1;
    let mut bytes = encode_row(row).unwrap();
    bytes[0] = 0;
    assert!(matches!(decode_row(&bytes), Err(Error::Damaged { .. })));
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    let mut bytes = vec![1, 1];
    bytes.extend(u32::MAX.to_le_bytes());
    bytes.extend([0; 40]);
    assert!(matches!(decode_batch(&bytes), Err(Error::TooLarge { .. })));
    // Bincode that announces 2^60 commands.
    let mut bytes = vec![1, 0, 0, 253];
    bytes.extend((1_u64 << 60).to_le_bytes());
    assert!(matches!(decode_batch(&bytes), Err(Error::Damaged { .. })));
}

#[test]
fn every_cut_and_every_added_byte_is_refused() {
    let plain = Batch {
        stamped_at: 5,
        commands: vec![Command::Enqueue(Box::new(samples::spec(1)))],
    };
    for batch in [samples::batch(), plain] {
        let bytes = encode_batch(&batch).unwrap();
        for cut in 0..bytes.len() {
            assert!(decode_batch(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(decode_batch(&longer).is_err());
    }
}

fn name() -> impl Strategy<Value = Name> {
    ".{0,12}".prop_map(|text| Name::from(text.as_str()))
}

/// Names that differ by what marks the ends of names.
fn short() -> impl Strategy<Value = Name> {
    "[\u{0}a\u{ff}]{0,4}".prop_map(|text| Name::from(text.as_str()))
}

fn level() -> impl Strategy<Value = LimitLevel> {
    (0..LimitLevel::ALL.len()).prop_map(|at| LimitLevel::ALL[at])
}

fn key() -> impl Strategy<Value = RowKey> {
    prop_oneof![
        Just(RowKey::Meta),
        any::<u64>().prop_map(|id| RowKey::Tenant(TenantId(id))),
        (any::<u64>(), name()).prop_map(|(id, name)| RowKey::Queue(TenantId(id), name)),
        any::<u128>().prop_map(|id| RowKey::Job(JobId(id))),
        any::<u128>().prop_map(|id| RowKey::Session(SessionId(id))),
        any::<u64>().prop_map(RowKey::Ended),
        (any::<u64>(), name()).prop_map(|(id, name)| RowKey::KindCost(TenantId(id), name)),
        (level(), short(), short()).prop_map(|(level, tenants, names)| RowKey::Limit(LimitSelector {
            level,
            tenants,
            names
        })),
        (level(), 0..3_u64, short()).prop_map(|(level, id, name)| RowKey::Gate(level, TenantId(id), name)),
        (0..3_u64, short(), short()).prop_map(|(id, queue, key)| RowKey::Order(TenantId(id), queue, key)),
        any::<u64>().prop_map(RowKey::Fleet),
        any::<u64>().prop_map(RowKey::Node),
        (any::<u64>(), any::<[u8; 32]>()).prop_map(|(node, hash)| RowKey::JoinToken(node, hash)),
        Just(RowKey::Changes),
        (any::<u64>(), any::<u32>()).prop_map(|(index, position)| RowKey::Request(index, position)),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let numbers = (any::<u64>(), any::<u64>(), any::<u128>(), any::<bool>(), name());
    (0_usize..11, numbers, any::<proptest::sample::Index>()).prop_map(|(at, (a, b, c, flag, name), state)| {
        let states = [
            JobState::Scheduled,
            JobState::Running,
            JobState::Retrying,
            JobState::Succeeded,
            JobState::Expired,
        ];
        let state = *state.get(&states);
        let mut row = samples::rows().swap_remove(at).1;
        match &mut row {
            Row::Meta(row) => (row.cluster, row.now, row.next_fleet) = (c, a, b),
            Row::Tenant(row) => (row.id, row.shares[0].tag, row.name) = (TenantId(a), b, name),
            Row::Queue(row) => (row.tenant, row.paused, row.queue) = (TenantId(a), flag, name),
            Row::Job(row) => {
                let row = std::sync::Arc::make_mut(row);
                (row.sequence, row.state, row.cancel_asked, row.ended_at) = (a, state, flag, b);
                let spec = std::sync::Arc::make_mut(&mut row.spec);
                (spec.id, spec.kind) = (JobId(c), name.clone());
                spec.idempotency_key = flag.then_some(name);
            }
            Row::Session(row) => (row.opened_at, row.credit_total, row.quiet, row.spec.worker) = (a, b, flag, name),
            Row::Ended(row) => {
                (row.index, row.at) = (a, b);
                (row.jobs[0].job, row.jobs[0].state) = (JobId(c), state);
            }
            Row::KindCost(row) => (row.tenant, row.mean, row.kind) = (TenantId(a), b, name),
            Row::Limit(row) => (row.selector.names, row.concurrency) = (name, a as u32),
            Row::Gate(row) => (row.tenant, row.arrival, row.shut_until, row.name) = (TenantId(a), c, b, name),
            Row::Order(row) => (row.tenant, row.sequence, row.key) = (TenantId(a), b, name),
            Row::Fleet(row) => (row.id, row.virtual_time) = (a, b),
            Row::Node(row) => (row.node, row.since, row.instance, row.note) = (a, b, c, name),
            Row::JoinToken(row) => (row.node, row.expires_at, row.peer) = (a, b, name),
            Row::Changes(row) => row.current = flag.then(|| row.last.clone().unwrap().change),
            Row::Request(row) => (row.index, row.request, row.fingerprint) = (a, RequestId(c), b),
        }
        row
    })
}

proptest! {
    #[test]
    fn rows_and_keys_come_back(row in row()) {
        prop_assert_eq!(decode_row(&encode_row(&row).unwrap()).unwrap(), row.clone());
        prop_assert_eq!(decode_key(&encode_key(&row.key())).unwrap(), row.key());
    }

    #[test]
    fn keys_order_as_their_bytes(a in key(), b in key()) {
        prop_assert_eq!(decode_key(&encode_key(&a)).unwrap(), a.clone());
        prop_assert_eq!(a.cmp(&b), encode_key(&a).cmp(&encode_key(&b)));
    }

    /// Nothing panics; most is refused, and what is not is a value.
    #[test]
    fn hostile_bytes_do_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), version in 0_u8..3) {
        drop((decode_batch(&bytes), decode_row(&bytes), decode_job(&bytes), decode_key(&bytes)));
        bytes.insert(0, version);
        drop((decode_batch(&bytes), decode_row(&bytes), decode_job(&bytes), decode_replies(&bytes)));
    }

    #[test]
    fn a_flipped_bit_does_no_harm(at in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = encode_batch(&samples::batch()).unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        drop(decode_batch(&bytes));
    }
}
