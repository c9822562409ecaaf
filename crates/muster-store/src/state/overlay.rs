//! Ended jobs that no checkpoint has written yet. As large as the time between checkpoints makes it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use muster_core::{JobId, JobRow, Name, TenantId};

use super::history::{HistoryKey, history_key};
use super::types::KeyHolder;

#[derive(Debug, Default)]
pub(super) struct Overlay {
    jobs: BTreeMap<HistoryKey, Arc<JobRow>>,
    ids: HashMap<JobId, HistoryKey>,
    keys: HashMap<(TenantId, Name), KeyHolder>,
}

impl Overlay {
    pub fn add(&mut self, row: Arc<JobRow>) {
        let key = history_key(&row);
        if let Some(name) = &row.spec.idempotency_key {
            let holder = KeyHolder {
                job: row.spec.id,
                enqueued_at: row.enqueued_at,
            };
            let held = self.keys.entry((row.tenant, name.clone())).or_insert(holder);
            if held.enqueued_at <= holder.enqueued_at {
                *held = holder;
            }
        }
        self.ids.insert(row.spec.id, key);
        self.jobs.insert(key, row);
    }

    /// Forgets a job that was written. One that ended anew meanwhile stays.
    pub fn remove(&mut self, row: &JobRow) {
        let key = history_key(row);
        if self.jobs.remove(&key).is_none() {
            return;
        }
        if self.ids.get(&row.spec.id) == Some(&key) {
            self.ids.remove(&row.spec.id);
        }
        if let Some(name) = &row.spec.idempotency_key {
            let place = (row.tenant, name.clone());
            if self.keys.get(&place).is_some_and(|holder| holder.job == row.spec.id) {
                self.keys.remove(&place);
            }
        }
    }

    pub fn job(&self, id: JobId) -> Option<Arc<JobRow>> {
        self.jobs.get(self.ids.get(&id)?).cloned()
    }

    pub fn holder(&self, tenant: TenantId, key: &str) -> Option<KeyHolder> {
        self.keys.get(&(tenant, Name::from(key))).copied()
    }

    /// Jobs with `from <= key < to`, at most `limit`.
    pub fn range(&self, from: HistoryKey, to: HistoryKey, limit: usize) -> Vec<(HistoryKey, Arc<JobRow>)> {
        if from >= to {
            return Vec::new();
        }
        let range = self.jobs.range(from..to).take(limit);
        range.map(|(key, row)| (*key, row.clone())).collect()
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
