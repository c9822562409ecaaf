//! Writing a history from many tasks at once.
//!
//! A record is turned into text by the task that has it and appended under a lock that is held for the copy only. A
//! channel with a writer thread would be no cheaper, and on a full channel an async task would block all the same;
//! this way nothing is in flight when the program ends, and lines stand in the order in which they were appended.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use muster_core::Name;

use crate::*;

/// Appends records to a file. Clones share it.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    began: Instant,
    processes: AtomicU32,
    output: Mutex<Output>,
}

struct Output {
    file: BufWriter<File>,
    records: u64,
    /// The first failure; nothing is written after it.
    failed: Option<io::Error>,
}

impl Recorder {
    /// Creates the file and writes the header. Time 0 is now.
    pub fn create(path: &Path, header: &Header) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        serde_json::to_writer(&mut file, header)?;
        file.write_all(b"\n")?;
        let output = Output {
            file,
            records: 0,
            failed: None,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                began: Instant::now(),
                processes: AtomicU32::new(0),
                output: Mutex::new(output),
            }),
        })
    }

    /// The recording clock.
    pub fn now(&self) -> Micros {
        u64::try_from(self.shared.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Appends a record. A failure is kept for [`Recorder::finish`].
    pub fn record(&self, record: &Record) {
        let text = serde_json::to_vec(record).map(|mut text| {
            text.push(b'\n');
            text
        });
        let mut output = self.shared.output.lock().unwrap_or_else(PoisonError::into_inner);
        if output.failed.is_some() {
            return;
        }
        match text
            .map_err(io::Error::from)
            .and_then(|text| output.file.write_all(&text))
        {
            Ok(()) => output.records += 1,
            Err(fault) => output.failed = Some(fault),
        }
    }

    /// A new client.
    pub fn process(&self) -> Process {
        Process {
            recorder: self.clone(),
            number: self.shared.processes.fetch_add(1, Ordering::Relaxed),
            calls: 0,
        }
    }

    /// A worker of this name.
    pub fn worker(&self, name: impl Into<Name>) -> WorkerLog {
        WorkerLog {
            recorder: self.clone(),
            name: name.into(),
        }
    }

    /// A fault begins.
    pub fn fault(&self, kind: FaultKind, target: impl Into<String>) -> FaultLog {
        FaultLog {
            start: self.now(),
            recorder: self.clone(),
            kind,
            target: target.into(),
        }
    }

    /// Writes what is buffered; returns how many records were written, or the first failure.
    pub fn finish(&self) -> io::Result<u64> {
        let mut output = self.shared.output.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = output.failed.take() {
            return Err(fault);
        }
        output.file.flush()?;
        Ok(output.records)
    }
}

/// A client: makes one call at a time.
pub struct Process {
    recorder: Recorder,
    number: u32,
    calls: u32,
}

impl Process {
    /// Records the beginning of a call; make the call after it.
    pub fn invoke(&mut self, operation: Operation) -> CallLog {
        self.calls += 1;
        let call = CallLog {
            recorder: self.recorder.clone(),
            process: self.number,
            call: self.calls,
        };
        self.recorder.record(&Record::Invoke(Invoke {
            at: self.recorder.now(),
            process: call.process,
            call: call.call,
            operation,
        }));
        call
    }
}

/// A call under way. Dropped without completion, its outcome counts as unknown.
pub struct CallLog {
    recorder: Recorder,
    process: u32,
    call: u32,
}

impl CallLog {
    /// Done. `index`: as in [`Complete::index`].
    pub fn ok(self, answer: Answer, index: Option<u64>) {
        self.complete(Outcome::Ok(answer), index);
    }

    /// Certainly without effect.
    pub fn fail(self, why: impl Into<String>) {
        self.complete(Outcome::Fail(why.into()), None);
    }

    /// Unknown.
    pub fn info(self, why: impl Into<String>) {
        self.complete(Outcome::Info(why.into()), None);
    }

    /// A change delivered by a watch.
    pub fn watched(&self, job: Id, state: JobState, index: u64) {
        self.recorder.record(&Record::Watched(Watched {
            at: self.recorder.now(),
            process: self.process,
            call: self.call,
            job,
            state,
            index,
        }));
    }

    fn complete(self, outcome: Outcome, index: Option<u64>) {
        self.recorder.record(&Record::Complete(Complete {
            at: self.recorder.now(),
            process: self.process,
            call: self.call,
            outcome,
            index,
        }));
    }
}

/// A fault in force. Dropped without its end, it is not in the history.
pub struct FaultLog {
    recorder: Recorder,
    kind: FaultKind,
    target: String,
    start: Micros,
}

impl FaultLog {
    /// It is over. `took_effect`: as in [`Fault::took_effect`].
    pub fn over(self, took_effect: bool) {
        self.recorder.record(&Record::Fault(Fault {
            kind: self.kind,
            target: self.target,
            start: self.start,
            end: self.recorder.now(),
            took_effect,
        }));
    }
}

/// A worker.
#[derive(Clone)]
pub struct WorkerLog {
    recorder: Recorder,
    name: Name,
}

impl WorkerLog {
    /// A handler begins.
    pub fn started(&self, job: Id, fence: u64, attempt: u32) {
        self.recorder.record(&Record::Started(Started {
            at: self.recorder.now(),
            worker: self.name.clone(),
            job,
            fence,
            attempt,
        }));
    }

    /// A handler ended; call it before the report is sent, and before each repeat.
    pub fn ended(&self, job: Id, fence: u64, how: How) {
        self.recorder.record(&Record::Ended(Ended {
            at: self.recorder.now(),
            worker: self.name.clone(),
            job,
            fence,
            how,
        }));
    }

    /// The report was answered.
    pub fn answered(&self, job: Id, fence: u64, accepted: bool) {
        self.recorder.record(&Record::Answered(Answered {
            at: self.recorder.now(),
            worker: self.name.clone(),
            job,
            fence,
            accepted,
        }));
    }

    /// The handler used the fenced resource.
    pub fn wrote(&self, job: Id, fence: u64, accepted: bool) {
        self.recorder.record(&Record::Wrote(Wrote {
            at: self.recorder.now(),
            job,
            fence,
            accepted,
        }));
    }
}
