//! Synthetic good histories, to measure the judge.

use std::io::{self, Write};

use crate::history::*;

/// Calls of one client in a row before the next one's turn.
const KEYS_EVERY: u64 = 10;

/// Writes a history of about this many calls: each job is enqueued, run, and read back; some fail once.
/// Returns the number of calls.
pub fn write(mut output: impl Write, calls: u64) -> io::Result<u64> {
    let mut line = |record: &Record| -> io::Result<()> {
        serde_json::to_writer(&mut output, record)?;
        output.write_all(b"\n")
    };
    let jobs = calls / 2;
    for number in 0..jobs {
        for record in life(number) {
            line(&record)?;
        }
    }
    let totals = Totals {
        enqueued: jobs,
        succeeded: jobs,
        ..Totals::default()
    };
    line(&Record::Tenant(FinalTenant {
        tenant: "default".into(),
        live: Counts::default(),
        totals: Some(totals),
    }))?;
    line(&Record::Scanned(Scanned {
        at: jobs * 100 + 100_000,
        complete: true,
    }))?;
    Ok(jobs * 2)
}

/// The header to go with it.
pub fn header() -> Header {
    Header {
        slack_us: 0,
        ..Header::new("generated")
    }
}

/// All records of the `number`-th job.
fn life(number: u64) -> Vec<Record> {
    let job = Id(u128::from(number) << 64 | u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let (process, call) = ((number % 64) as u32, (number / 64 * 2 + 1) as u32);
    let start = number * 100;
    let fails = number.is_multiple_of(7);
    let args = JobArgs {
        job,
        tenant: "default".into(),
        queue: format!("queue-{}", number % 16).into(),
        kind: "work".into(),
        key: number
            .is_multiple_of(KEYS_EVERY)
            .then(|| format!("key-{number}").into()),
        available_at: 0,
        max_attempts: 20,
        max_crashes: 3,
        backoff: Backoff::Fixed { delay: 1 },
        attempt_timeout: 0,
        expires_in: 0,
        claims: Claims::default(),
    };
    let invoke = |at, call, operation| {
        Record::Invoke(Invoke {
            at,
            process,
            call,
            operation,
        })
    };
    let complete = |at, call, answer, index| {
        Record::Complete(Complete {
            at,
            process,
            call,
            outcome: Outcome::Ok(answer),
            index: Some(index),
        })
    };
    let first = number * 4 + 1;
    let enqueued = Enqueued {
        job,
        existed: false,
        state: Some(JobState::Available),
    };
    let mut records = vec![
        invoke(start, call, Operation::Enqueue(args.clone())),
        complete(start + 1_000, call, Answer::Enqueued(enqueued), first),
    ];
    if fails {
        let failed = How::Failed { retry_after_ms: 0 };
        records.extend(attempt(job, number, start + 1_100, (first + 1) << 24, 1, failed));
    }
    let attempts = 1 + u32::from(fails);
    records.extend(attempt(
        job,
        number,
        start + 3_000,
        (first + 2) << 24,
        attempts,
        How::Succeeded,
    ));
    let get = Operation::Get {
        tenant: args.tenant.clone(),
        job,
    };
    let seen = JobSeen {
        job,
        state: JobState::Succeeded,
        attempts,
        version: first + 3,
    };
    records.push(invoke(start + 5_000, call + 1, get));
    records.push(complete(start + 5_100, call + 1, Answer::Job(Some(seen)), first + 3));
    records.push(Record::Job(FinalJob {
        job,
        tenant: args.tenant,
        queue: args.queue,
        key: args.key,
        state: JobState::Succeeded,
        attempts,
        failures: attempts - 1,
        crashes: 0,
        max_attempts: 20,
        max_crashes: 3,
        ended_at: 1,
        redriven_from: None,
    }));
    records
}

fn attempt(job: Id, number: u64, began: Micros, fence: u64, attempt: u32, how: How) -> [Record; 3] {
    let worker: Name = format!("worker-{}", number % 8).into();
    [
        Record::Started(Started {
            at: began,
            worker: worker.clone(),
            job,
            fence,
            attempt,
        }),
        Record::Ended(Ended {
            at: began + 500,
            worker: worker.clone(),
            job,
            fence,
            how,
        }),
        Record::Answered(Answered {
            at: began + 600,
            worker,
            job,
            fence,
            accepted: true,
        }),
    ]
}

#[cfg(test)]
mod tests {
    use crate::check::judge;
    use crate::facts::Facts;
    use crate::history::Reader;

    #[test]
    fn what_is_generated_is_good() {
        let mut text = Vec::new();
        serde_json::to_writer(&mut text, &super::header()).expect("it is plain data");
        text.push(b'\n');
        assert_eq!(super::write(&mut text, 1_000).expect("memory"), 1_000);
        let mut facts = Facts::new(super::header());
        for record in Reader::new(&*text).expect("own header") {
            let (line, record) = record.expect("own record");
            facts.see(line, record);
        }
        for verdict in judge(&facts) {
            assert_eq!(verdict.violations, [], "{}", verdict.id);
        }
    }
}
