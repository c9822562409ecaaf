//! Page tokens: opaque to clients, good for one query only.
//!
//! Hexadecimal digits of: version (1 byte), place (1 byte: 1 live, 2 ended), hash of tenant and filter (8 bytes), two
//! numbers of 8 bytes. All big-endian.

use std::hash::{DefaultHasher, Hash, Hasher};

use muster_core::{JobFilter, JobId, TenantId};
use muster_store::HistoryCursor;

use crate::errors::Violation;
use crate::reason::Reason;

const VERSION: u8 = 1;
const LENGTH: usize = 26;

/// Where the next page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Among the live jobs, below this id.
    Live(Option<JobId>),
    /// Among the ended jobs, after this one.
    Ended(HistoryCursor),
}

/// Before the first ended job.
pub(super) const BEGIN: HistoryCursor = HistoryCursor {
    ended_index: u64::MAX,
    sequence: u64::MAX,
};

/// Tells queries apart, so that a token is not used for another one. Not a secret: a token opens nothing that the
/// query itself would not show.
pub(super) fn query(tenant: TenantId, filter: &JobFilter) -> u64 {
    let mut hasher = DefaultHasher::new();
    (tenant, &filter.queue, &filter.kind, &filter.states).hash(&mut hasher);
    hasher.finish()
}

pub(super) fn text(query: u64, place: Place) -> String {
    use std::fmt::Write as _;
    let (tag, numbers) = match place {
        Place::Live(before) => (1, before.map_or(u128::MAX, |id| id.0)),
        Place::Ended(cursor) => (2, u128::from(cursor.ended_index) << 64 | u128::from(cursor.sequence)),
    };
    let mut text = String::with_capacity(LENGTH * 2);
    // Writing to a string cannot fail.
    let _ = write!(text, "{VERSION:02x}{tag:02x}{query:016x}{numbers:032x}");
    text
}

pub(super) fn parse(text: &str, query: u64) -> Result<Place, Violation> {
    let invalid = || {
        let allowed = "the next_page_token of the page before, with the same tenant and filters";
        Violation::new(
            Reason::PageTokenInvalid,
            "page_token",
            crate::validate::shown(text),
            allowed,
        )
    };
    if text.len() != LENGTH * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(invalid());
    }
    let number = |range: std::ops::Range<usize>| u64::from_str_radix(&text[range], 16).map_err(|_| invalid());
    if number(0..2)? != u64::from(VERSION) || number(4..20)? != query {
        return Err(invalid());
    }
    let (high, low) = (number(20..36)?, number(36..52)?);
    match number(2..4)? {
        1 => {
            let id = u128::from(high) << 64 | u128::from(low);
            Ok(Place::Live((id != u128::MAX).then_some(JobId(id))))
        }
        2 => Ok(Place::Ended(HistoryCursor {
            ended_index: high,
            sequence: low,
        })),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_for_the_same_query_only() {
        let tenant = TenantId(3);
        let mine = query(tenant, &JobFilter::default());
        let other = query(
            tenant,
            &JobFilter {
                queue: Some("mail".into()),
                ..JobFilter::default()
            },
        );
        for place in [
            Place::Live(None),
            Place::Live(Some(JobId(77))),
            Place::Ended(BEGIN),
            Place::Ended(HistoryCursor {
                ended_index: 5,
                sequence: 6,
            }),
        ] {
            let text = text(mine, place);
            assert_eq!(parse(&text, mine), Ok(place));
            assert!(parse(&text, other).is_err());
        }
        for bad in ["", "7", "zz", &"0".repeat(52), &"é".repeat(26)] {
            assert_eq!(
                parse(bad, mine).expect_err("not a token").reason,
                Reason::PageTokenInvalid,
                "{bad}"
            );
        }
    }
}
