//! What an error says to programs, beside its reason.

use std::collections::HashMap;

use muster_core::{ClusterRefusal, Refusal};

use crate::convert;
use crate::errors::Error;

impl Error {
    /// Facts for programs.
    pub(crate) fn facts(&self) -> HashMap<String, String> {
        let pairs: Vec<(&str, String)> = match self {
            Self::Invalid(violation) => vec![
                ("field", violation.field.clone()),
                ("value", violation.value.clone()),
                ("allowed", violation.allowed.clone()),
            ],
            Self::TenantNotFound(name) | Self::Refused(Refusal::UnknownTenant(name) | Refusal::TenantExists(name)) => {
                vec![("tenant", name.to_string())]
            }
            Self::JobNotFound(job) | Self::Refused(Refusal::UnknownJob(job)) => vec![("job", job.to_string())],
            Self::JobNotDead { job, state } => {
                vec![
                    ("job", job.to_string()),
                    ("state", convert::state_name(*state).to_owned()),
                ]
            }
            Self::Refused(Refusal::Conflict { first, what }) => {
                vec![("first_job", first.to_string()), ("field", what.to_string())]
            }
            Self::Refused(Refusal::OtherItemRefused { item }) => vec![("item", item.to_string())],
            Self::Refused(Refusal::LevelFalls { current, asked }) => {
                vec![("level", asked.to_string()), ("level_in_force", current.to_string())]
            }
            Self::Refused(Refusal::QuotaExceeded { tenant, excess }) => vec![
                ("tenant", tenant.to_string()),
                ("quota", excess.bound.as_str().to_owned()),
                ("value", excess.value.to_string()),
                ("limit", excess.limit.to_string()),
            ],
            Self::MemoryShare {
                tenant,
                held,
                wanted,
                allowed,
                free,
                limit,
            } => vec![
                ("tenant", tenant.to_string()),
                ("held", held.to_string()),
                ("wanted", wanted.to_string()),
                ("allowed", allowed.to_string()),
                ("free", free.to_string()),
                ("limit", limit.to_string()),
            ],
            Self::MemoryFull { used, limit, .. } => vec![("value", used.to_string()), ("limit", limit.to_string())],
            Self::LeaderLate { waited, lag_max, .. } => vec![
                ("what", "milliseconds of waiting on the leader".to_owned()),
                ("value", waited.as_millis().to_string()),
                ("limit", lag_max.as_millis().to_string()),
            ],
            Self::Overloaded { what, value, limit, .. } => vec![
                ("what", (*what).to_owned()),
                ("value", value.to_string()),
                ("limit", limit.to_string()),
            ],
            Self::TooMuchWaits { what, value, limit, .. } => vec![
                ("what", what.to_string()),
                ("value", value.to_string()),
                ("limit", limit.to_string()),
            ],
            Self::QuorumAtRisk { node, silent, .. } => {
                vec![("node", node.to_string()), ("silent", format!("{silent:?}"))]
            }
            Self::CannotLead { node, .. } | Self::LeadNotTaken { node, .. } => vec![("node", node.to_string())],
            Self::Refused(Refusal::Cluster(refusal)) => cluster_facts(refusal),
            _ => Vec::new(),
        };
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

fn cluster_facts(refusal: &ClusterRefusal) -> Vec<(&'static str, String)> {
    match refusal {
        ClusterRefusal::NodeIdUsed { node, next } => vec![("node", node.to_string()), ("next", next.to_string())],
        ClusterRefusal::ChangeUnderWay { id, change } => {
            vec![("change_id", id.to_string()), ("change", change.to_string())]
        }
        ClusterRefusal::AddressTaken { address, node } => {
            vec![("address", address.to_string()), ("node", node.to_string())]
        }
        ClusterRefusal::UnknownNode { node }
        | ClusterRefusal::NodeRemoved { node, .. }
        | ClusterRefusal::LastVoter { node }
        | ClusterRefusal::LastUndrained { node }
        | ClusterRefusal::NotVoter { node }
        | ClusterRefusal::AlreadyVoter { node } => vec![("node", node.to_string())],
        _ => Vec::new(),
    }
}
