//! Pausing kinds of jobs.

use super::out_of_range;
use crate::core::Core;
use crate::hash::{Effect, text};
use crate::ids::Name;
use crate::limit::LimitLevel;
use crate::reply::{Refusal, Reply};
use crate::tenant::PAUSED_KINDS_MAX;

impl Core {
    pub(super) fn pause_kind(&mut self, tenant: Name, kind: Name, paused: bool, note: Name) -> Result<Reply, Refusal> {
        let tenant = self.tenant_number(&tenant)?;
        let kinds = &mut self.tenants[tenant as usize].paused_kinds;
        if paused && !kinds.contains(&kind) && kinds.len() >= PAUSED_KINDS_MAX {
            return Err(out_of_range(
                "kind",
                kind,
                &format!("at most {PAUSED_KINDS_MAX} paused kinds of a tenant; resume one first"),
            ));
        }
        if paused {
            kinds.insert(kind.clone());
        } else {
            kinds.remove(&kind);
        }
        let digest = text(&note) ^ u64::from(paused);
        self.effects
            .note(Effect::KindSet, u64::from(tenant) ^ text(&kind), digest);
        // A paused kind is a closed gate: its lanes are parked as they are refused.
        let gate = self.gate_number(LimitLevel::Kind, tenant, &kind, tenant);
        self.change_gate(gate, |gate| gate.paused = paused.then_some(note));
        self.drop_gate_if_new(gate);
        Ok(Reply::Done)
    }
}
