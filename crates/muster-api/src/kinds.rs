//! Kinds: list, pause, resume; and jobs that no worker accepts.

use std::collections::BTreeMap;

use muster_core::{Command, TenantId, UnroutableKey, UnroutableView};
use muster_proto::v1;
use tokio::time::Instant;

use crate::api::{Api, Caller};
use crate::errors::Error;
use crate::limits::{
    NOTE_BYTES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, UNROUTABLE_GROUPS_COUNTED, UNROUTABLE_GROUPS_MAX,
};
use crate::{convert, validate};

/// Lanes looked at under one lock of the state.
const LOOK_BUDGET: usize = 2_000;

impl Api {
    pub(crate) async fn list_kinds(
        &self,
        caller: Caller,
        request: v1::ListKindsRequest,
    ) -> Result<v1::ListKindsResponse, Error> {
        let size = validate::number("page_size", request.page_size, 1, PAGE_SIZE_MAX, PAGE_SIZE_DEFAULT)? as usize;
        let read = self.begin_read(request.consistency, caller.deadline).await?;
        let tenant = self.tenant_of_read(&caller.tenant)?;
        let mut kinds = self.raft().read(|core| core.kinds(tenant, &request.after, size + 1));
        let more = kinds.len() > size;
        kinds.truncate(size);
        Ok(v1::ListKindsResponse {
            kinds: kinds.iter().map(convert::kind_of).collect(),
            more,
            freshness: read.freshness(),
        })
    }

    pub(crate) async fn pause_kind(
        &self,
        caller: Caller,
        request: v1::PauseKindRequest,
    ) -> Result<v1::PauseKindResponse, Error> {
        self.set_kind_paused(caller, &request.kind, true, &request.note).await?;
        Ok(v1::PauseKindResponse {})
    }

    pub(crate) async fn resume_kind(
        &self,
        caller: Caller,
        request: v1::ResumeKindRequest,
    ) -> Result<v1::ResumeKindResponse, Error> {
        self.set_kind_paused(caller, &request.kind, false, "").await?;
        Ok(v1::ResumeKindResponse {})
    }

    async fn set_kind_paused(&self, caller: Caller, kind: &str, paused: bool, note: &str) -> Result<(), Error> {
        let command = Command::PauseKind {
            tenant: caller.tenant.clone(),
            kind: validate::name("kind", kind)?,
            paused,
            note: validate::text("note", note, NOTE_BYTES_MAX)?,
        };
        self.done(command, caller).await
    }

    pub(crate) async fn list_unroutable(
        &self,
        caller: Caller,
        request: v1::ListUnroutableRequest,
    ) -> Result<v1::ListUnroutableResponse, Error> {
        let read = self.begin_read(request.consistency, caller.deadline).await?;
        let tenant = self.tenant_of_read(&caller.tenant)?;
        let now = self.raft().read(|core| core.meta().now);
        let (mut groups, all) = self.unroutable_groups(tenant, caller.deadline).await?;
        groups.sort_by(|a, b| (b.jobs, &a.what).cmp(&(a.jobs, &b.what)));
        let more = !all || groups.len() > UNROUTABLE_GROUPS_MAX;
        groups.truncate(UNROUTABLE_GROUPS_MAX);
        Ok(v1::ListUnroutableResponse {
            groups: groups.iter().map(|group| convert::unroutable(group, now)).collect(),
            more,
            freshness: read.freshness(),
        })
    }

    /// Sums over lanes, in looks so short that apply does not notice. False: there were more groups than are counted.
    async fn unroutable_groups(
        &self,
        tenant: TenantId,
        deadline: Instant,
    ) -> Result<(Vec<UnroutableView>, bool), Error> {
        let mut groups: BTreeMap<UnroutableKey, UnroutableView> = BTreeMap::new();
        let mut all = true;
        let mut from = Some(0);
        while let Some(number) = from {
            let (part, next) = self.raft().read(|core| core.unroutable_of(tenant, number, LOOK_BUDGET));
            for group in part {
                let oldest = group.oldest_available_at;
                if let Some(known) = groups.get_mut(&group.what) {
                    known.jobs += group.jobs;
                    known.oldest_available_at = known.oldest_available_at.min(oldest);
                } else if groups.len() < UNROUTABLE_GROUPS_COUNTED {
                    groups.insert(group.what.clone(), group);
                } else {
                    all = false;
                }
            }
            from = next;
            if Instant::now() >= deadline {
                return Err(Error::DeadlinePassed("jobs that no worker accepts were being counted"));
            }
            // The looks of one call are as many as the cluster has lanes: other calls come in between.
            tokio::task::yield_now().await;
        }
        Ok((groups.into_values().collect(), all))
    }
}
