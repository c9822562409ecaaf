//! The recorder under many threads.

use muster_sim::history::{
    Answer, Backoff, Claims, Enqueued, FaultKind, Header, How, Id, JobArgs, Operation, Reader, Record, Recorder,
};

const CLIENTS: u128 = 8;
const CALLS: u128 = 200;

fn args(job: Id) -> JobArgs {
    JobArgs {
        job,
        tenant: "default".into(),
        queue: "mail".into(),
        kind: "send".into(),
        key: None,
        available_at: 0,
        max_attempts: 1,
        max_crashes: 1,
        backoff: Backoff::Fixed { delay: 1 },
        attempt_timeout: 0,
        expires_in: 0,
        claims: Claims::default(),
    }
}

fn client(recorder: &Recorder, number: u128) {
    let mut process = recorder.process();
    let worker = recorder.worker(format!("worker-{number}"));
    for call in 0..CALLS {
        let job = Id(number << 64 | call);
        let pending = process.invoke(Operation::Enqueue(args(job)));
        let enqueued = Enqueued {
            job,
            existed: false,
            state: None,
        };
        pending.ok(Answer::Enqueued(enqueued), None);
        let fence = (number * CALLS + call) as u64;
        worker.started(job, fence, 1);
        worker.ended(job, fence, How::Succeeded);
        worker.answered(job, fence, true);
    }
}

#[test]
fn every_record_of_every_thread_is_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let recorder = Recorder::create(&path, &Header::new("test")).unwrap();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let recorder = &recorder;
            scope.spawn(move || client(recorder, number));
        }
    });
    recorder.fault(FaultKind::Kill, "node 1").over(true);
    let expected = (CLIENTS * CALLS * 5 + 1) as u64;
    assert_eq!(recorder.finish().unwrap(), expected);
    let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
    let records: Vec<Record> = Reader::new(file).unwrap().map(|record| record.unwrap().1).collect();
    assert_eq!(records.len() as u64, expected);
    let tally = muster_sim::judge_file(&path, |_| {}).unwrap();
    assert_eq!(tally.violations(), 0, "{tally}");
}
