//! A data directory with everything in it, and what it holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use muster_core::*;
use muster_store::codec::encode_batch;
use muster_store::{Checkpoint, EntryKind, Identity, LogEntry, LogPosition, Store, StoreOptions};

/// Small buffers, so that reads come from files and not from memory.
pub fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        tail_bytes_max: 16 << 10,
        flush_interval: std::time::Duration::from_hours(1),
        ..StoreOptions::new(dir)
    }
}

pub fn identity() -> Identity {
    Identity {
        cluster: 0x1234_5678_9abc_def0_1234_5678_9abc_def0,
        node: 2,
        ..Identity::new(1, 1)
    }
}

/// What a directory holds, to compare with what is read back.
#[derive(Default)]
pub struct Content {
    /// All entries ever appended, by index; those up to `purged` are gone.
    pub entries: Vec<LogEntry>,
    pub purged: u64,
    pub vote: Bytes,
    /// Rows of the state at each position at which it was flushed.
    pub states: BTreeMap<u64, Vec<Row>>,
    /// Ended jobs, in the order of their end.
    pub ended: Vec<Arc<JobRow>>,
}

struct Builder<'a> {
    dir: &'a Path,
    store: Store,
    core: Core,
    content: Content,
    unwritten: Vec<Arc<JobRow>>,
    running: Vec<(JobId, LeaseId)>,
    jobs: u128,
    credits: u64,
    term: u64,
}

/// Fills a new directory: a log of several files, part of it purged, votes, a state flushed several times, a history, and
/// a tail that only the write-ahead file holds. `scale` entries in each of five stages. A copy from before the purge goes
/// to `older`.
pub fn build(dir: &Path, older: &Path, scale: u64) -> Content {
    let store = Store::open(options(dir)).unwrap();
    store.set_identity(identity()).unwrap();
    let mut builder = Builder {
        dir,
        store,
        core: Core::new(),
        content: Content::default(),
        unwritten: Vec::new(),
        running: Vec::new(),
        jobs: 1 << 100,
        credits: 0,
        term: 1,
    };
    builder.vote();
    builder.begin();
    for stage in 0..5 {
        builder.term += 1;
        builder.vote();
        for step in 0..scale {
            builder.work();
            if step % 4 == 3 {
                builder.checkpoint();
            }
        }
        match stage {
            // The database is closed: its memory becomes a file with the next open.
            0 | 3 => builder.reopen(None),
            1 => builder.reopen(Some(older)),
            2 => builder.purge(),
            _ => {}
        }
        builder.checkpoint();
        builder.flush();
    }
    for _ in 0..scale {
        builder.work();
    }
    let content = builder.content;
    builder.store.close().unwrap();
    content
}

impl Builder<'_> {
    fn begin(&mut self) {
        let class = WorkerClass {
            tenants: Vec::new(),
            queues: Vec::new(),
            kinds: vec![KindVersions {
                kind: "mail".into(),
                min_version: 1,
                max_version: 1,
            }],
            labels: vec![("zone".into(), "a".into())],
            slots: 9,
        };
        self.apply(vec![
            Command::Bootstrap {
                cluster: identity().cluster,
            },
            Command::SetTenant {
                name: "docs".into(),
                settings: TenantSettings::default(),
                create_only: true,
            },
            Command::PauseQueue {
                tenant: "docs".into(),
                queue: "held".into(),
                paused: true,
                note: "for the test".into(),
            },
            Command::OpenSession(Box::new(SessionSpec {
                session: SessionId(1),
                node: 2,
                worker: "worker".into(),
                class,
                ttl: 10_000,
                proposed_after: 0,
            })),
        ]);
    }

    /// One entry: jobs come, some start, those that run end, one way or another.
    fn work(&mut self) {
        let mut commands: Vec<_> = (0..12).map(|_| self.enqueue()).collect();
        let running = std::mem::take(&mut self.running);
        self.credits += 9;
        let results = running.into_iter().map(|(job, lease)| AttemptReport {
            job,
            lease,
            outcome: if job.0.is_multiple_of(5) {
                AttemptOutcome::Failed {
                    error: JobError {
                        class: "oops".into(),
                        message: "it broke".into(),
                    },
                    retryable: job.0.is_multiple_of(2),
                    retry_after: 0,
                }
            } else {
                AttemptOutcome::Succeeded {
                    result: Bytes::from(format!("result of {job}")),
                }
            },
        });
        commands.push(Command::Report {
            session: SessionId(1),
            results: results.collect(),
            credit_total: self.credits,
        });
        self.apply(commands);
    }

    fn enqueue(&mut self) -> Command {
        self.jobs += 0x9_e377_9b97_f4a7_c15f;
        let (number, odd) = (self.jobs, self.jobs.is_multiple_of(3));
        // Not compressible, so that files have the size of their content.
        let noise = (0..24).flat_map(|at| (number.wrapping_mul(0x2545_f491_4f6c_dd1d + at)).to_le_bytes());
        Command::Enqueue(Box::new(JobSpec {
            id: JobId(number),
            tenant: if odd { "docs" } else { "default" }.into(),
            queue: "q".into(),
            kind: "mail".into(),
            schema_version: 1,
            payload: Payload {
                data: noise.collect::<Vec<u8>>().into(),
                ..Payload::default()
            },
            priority: Priority::Normal,
            available_at: 0,
            idempotency_key: odd.then(|| format!("key-{number:x}").into()),
            options: JobOptions::default(),
            ordering: None,
            metadata: vec![("trace".into(), format!("{number:x}").into())],
            seed: 1,
            origin: Origin::Api,
            history_searched: u64::MAX,
        }))
    }

    fn apply(&mut self, commands: Vec<Command>) {
        let index = self.content.entries.len() as u64;
        let batch = Batch {
            stamped_at: 1_700_000_000_000 + index * 1_000,
            commands,
        };
        let entry = LogEntry {
            position: self.position(index),
            kind: EntryKind::Commands,
            data: encode_batch(&batch).unwrap(),
        };
        append(&self.store, vec![entry.clone()]);
        self.content.entries.push(entry);
        for event in self.core.apply(index, batch).events {
            match event {
                Event::JobEnded(row) => {
                    self.store.state().note_ended(row.clone());
                    self.unwritten.push(row);
                }
                Event::Assigned(assignment) => self.running.push((assignment.spec.id, assignment.lease)),
                _ => {}
            }
        }
    }

    fn position(&self, index: u64) -> LogPosition {
        LogPosition {
            term: self.term,
            node: 1 + self.term % 3,
            index,
        }
    }

    fn vote(&mut self) {
        self.content.vote = Bytes::from(format!("term {} for node {}", self.term, 1 + self.term % 3));
        self.store.log().save_vote(self.content.vote.clone()).unwrap();
    }

    fn checkpoint(&mut self) {
        let ended = std::mem::take(&mut self.unwritten);
        self.content.ended.extend(ended.iter().cloned());
        let checkpoint = Checkpoint {
            ahead: Vec::new(),
            changes: self.core.take_changes(),
            ended,
            applied: self.content.entries.last().map(|entry| entry.position),
            membership: Bytes::from_static(b"three voters"),
        };
        self.store.state().write(checkpoint).unwrap();
    }

    fn flush(&mut self) {
        self.store.state().flush().unwrap();
        let rows = self.store.state().load().unwrap().rows;
        self.content.states.insert(self.core.meta().applied, rows);
    }

    fn reopen(&mut self, copy: Option<&Path>) {
        let store = Store::open(options(&self.dir.join("elsewhere"))).unwrap();
        std::mem::replace(&mut self.store, store).close().unwrap();
        if let Some(copy) = copy {
            crate::images::copy(self.dir, copy);
            std::fs::remove_dir_all(copy.join("elsewhere")).unwrap();
        }
        let own = Store::open(options(self.dir)).unwrap();
        std::mem::replace(&mut self.store, own).close().unwrap();
        std::fs::remove_dir_all(self.dir.join("elsewhere")).unwrap();
        // What a close flushes is in force from then on.
        let loaded = self.store.state().load().unwrap();
        if let Some(applied) = loaded.applied {
            self.content.states.insert(applied.index, loaded.rows);
        }
        for row in &self.unwritten {
            self.store.state().note_ended(row.clone());
        }
    }

    fn purge(&mut self) {
        self.checkpoint();
        self.flush();
        let flushed = *self.content.states.last_key_value().unwrap().0;
        let upto = self.content.entries[flushed as usize - 2].position;
        self.store.log().purge(upto).unwrap();
        self.content.purged = upto.index;
    }
}

/// Appends and waits for the sync.
pub fn append(store: &Store, entries: Vec<LogEntry>) {
    let (done, wait) = std::sync::mpsc::sync_channel(1);
    store
        .log()
        .append(entries, Box::new(move |result| drop(done.send(result))));
    wait.recv().unwrap().unwrap();
}
