//! Tests with real `muster server` processes. One binary: each of its own would be compiled and linked for itself.

mod admin;
mod agreement;
mod backup;
mod bench;
mod chaos;
mod damage;
mod explain;
mod failover;
mod full_disk;
mod growth;
mod lag;
mod life;
mod limits;
mod membership;
mod order;
mod overload;
mod quotas;
mod recover;
mod refusals;
mod scheduling;
mod stale;
mod syncs;
mod upgrade;
