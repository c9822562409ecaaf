//! Listing jobs: the live ones, then the ended ones, newest first within each.

mod token;

use std::sync::Arc;

use muster_core::{JobFilter, JobRow, Name, TenantId};
use muster_proto::v1;
use muster_store::HistoryCursor;
use tokio::time::Instant;

use crate::api::{Api, Caller};
use crate::errors::Error;
use crate::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use crate::{convert, validate};
use token::Place;

/// Live jobs looked at under one lock of the state.
const LIVE_BUDGET: usize = 2_000;
/// Locks of the state for one page; a page may be short, or empty, when few jobs match.
const LIVE_LOOKS: usize = 50;
/// Ended jobs looked at for one page.
const HISTORY_BUDGET: usize = 50_000;

impl Api {
    pub(crate) async fn list_jobs(
        &self,
        caller: Caller,
        request: v1::ListJobsRequest,
    ) -> Result<v1::ListJobsResponse, Error> {
        let filter = JobFilter {
            queue: optional_name("queue", &request.queue)?,
            kind: optional_name("kind", &request.kind)?,
            states: validate::states(&request.states)?,
        };
        let size = validate::number("page_size", request.page_size, 1, PAGE_SIZE_MAX, PAGE_SIZE_DEFAULT)? as usize;
        let read = self.begin_read(request.consistency, caller.deadline).await?;
        let tenant = self.tenant_of_read(&caller.tenant)?;
        let query = token::query(tenant, &filter);
        let place = match request.page_token.as_str() {
            "" => Place::Live(None),
            text => token::parse(text, query)?,
        };
        let (rows, next) = self.page(tenant, filter, place, size, caller.deadline).await?;
        Ok(v1::ListJobsResponse {
            jobs: rows.iter().map(|row| convert::job_without_data(row)).collect(),
            next_page_token: next.map(|place| token::text(query, place)).unwrap_or_default(),
            freshness: read.freshness(),
        })
    }

    async fn page(
        &self,
        tenant: TenantId,
        filter: JobFilter,
        place: Place,
        size: usize,
        deadline: Instant,
    ) -> Result<(Vec<Arc<JobRow>>, Option<Place>), Error> {
        let mut rows = Vec::new();
        let cursor = match place {
            Place::Live(before) => match self.live(tenant, &filter, before, size, &mut rows) {
                Some(next) => return Ok((rows, Some(next))),
                None => None,
            },
            Place::Ended(cursor) => Some(cursor),
        };
        let wants_ended = filter.states.is_empty() || filter.states.iter().any(|state| state.is_terminal());
        if !wants_ended {
            return Ok((rows, None));
        }
        if rows.len() >= size {
            // Full, and the history not begun: its first place is before everything.
            return Ok((rows, Some(Place::Ended(token::BEGIN))));
        }
        let (store, left) = (self.history().clone(), size - rows.len());
        let cursor = cursor.filter(|cursor| *cursor != token::BEGIN);
        let look =
            tokio::task::spawn_blocking(move || store.history_list(tenant, &filter, cursor, left, HISTORY_BUDGET));
        let (ended, next): (Vec<Arc<JobRow>>, Option<HistoryCursor>) =
            match tokio::time::timeout_at(deadline, look).await {
                Ok(Ok(found)) => found?,
                Ok(Err(error)) => return Err(Error::Internal(format!("reading the history: {error}"))),
                Err(_) => return Err(Error::DeadlinePassed("the history was being read")),
            };
        rows.extend(ended);
        Ok((rows, next.map(Place::Ended)))
    }

    /// Fills up from the live jobs, in looks so short that apply does not notice. Returns the place to go on from, unless
    /// there are no more.
    fn live(
        &self,
        tenant: TenantId,
        filter: &JobFilter,
        mut before: Option<muster_core::JobId>,
        size: usize,
        rows: &mut Vec<Arc<JobRow>>,
    ) -> Option<Place> {
        if !filter.states.is_empty() && filter.states.iter().all(|state| state.is_terminal()) {
            return None;
        }
        for _ in 0..LIVE_LOOKS {
            let left = size - rows.len();
            let (found, next) = self
                .raft()
                .read(|core| core.jobs(tenant, filter, before, left, LIVE_BUDGET));
            rows.extend(found);
            before = Some(next?);
            if rows.len() >= size {
                break;
            }
        }
        Some(Place::Live(before))
    }
}

/// A name, if one is given.
pub(crate) fn optional_name(field: &str, value: &str) -> Result<Option<Name>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    Ok(Some(validate::name(field, value)?))
}

/// For the fuzzer: a token that is taken is written the same again, but for the case of its digits.
#[cfg(any(test, fuzzing))]
pub(crate) fn token_again(text: &str) {
    const QUERY: u64 = 7;
    if let Ok(place) = token::parse(text, QUERY) {
        assert_eq!(token::text(QUERY, place), text.to_ascii_lowercase());
    }
}

/// A token that [`token_again`] takes.
#[cfg(test)]
pub(crate) fn some_token() -> String {
    token::text(7, Place::Ended(token::BEGIN))
}
