//! A session whose node is drained: the worker goes on at another node, and what this session started goes on as well.

use std::time::Duration;

use muster_proto::v1;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::session::{Session, work};

/// For the goodbye to reach the node.
const BYE_TIME: Duration = Duration::from_secs(2);

/// What comes of sessions that are being left.
#[derive(Debug)]
pub(super) enum Left {
    /// The node said something.
    Frame(v1::NodeFrame),
    /// The session is over; what its leases were can stand until then at most.
    Over { session: u64, until: Instant },
}

/// A session that is being left.
#[derive(Debug)]
pub(super) struct Farewell {
    /// Which of the worker's sessions it is.
    pub(super) session: u64,
    bye: Option<oneshot::Sender<()>>,
}

impl Farewell {
    /// Keeps the session alive in the background until it is said goodbye to.
    pub(super) fn begin(number: u64, session: Session, heard: mpsc::UnboundedSender<Left>) -> Self {
        let (bye, asked) = oneshot::channel();
        tokio::spawn(async move {
            let ttl = session.ttl;
            keep(session, asked, &heard).await;
            let _gone = heard.send(Left::Over {
                session: number,
                until: Instant::now() + ttl,
            });
        });
        Self {
            session: number,
            bye: Some(bye),
        }
    }

    /// The cluster knows the end of all that the session started.
    pub(super) fn say_bye(&mut self) {
        if let Some(bye) = self.bye.take() {
            let _over = bye.send(());
        }
    }
}

/// Signs of life out, frames in, until `bye` or the end of the stream.
async fn keep(mut session: Session, bye: oneshot::Receiver<()>, heard: &mpsc::UnboundedSender<Left>) {
    let outgoing = session.outgoing();
    let mut beat = tokio::time::interval(session.ttl / 3);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let quiet = |bye| {
        work(v1::WorkerFrame {
            quiet: true,
            bye,
            ..v1::WorkerFrame::default()
        })
    };
    tokio::pin!(bye);
    loop {
        tokio::select! {
            frame = session.next() => match frame {
                Ok(Some(frame)) => {
                    if heard.send(Left::Frame(frame)).is_err() {
                        return;
                    }
                }
                Ok(None) | Err(_) => return,
            },
            _ = beat.tick() => {
                // A full channel holds a sign of life already.
                let _full = outgoing.try_send(quiet(false));
            }
            asked = &mut bye => {
                if asked.is_ok() && outgoing.send(quiet(true)).await.is_ok() {
                    drop(outgoing);
                    let ending = async { while let Ok(Some(_)) = session.next().await {} };
                    let _late = tokio::time::timeout(BYE_TIME, ending).await;
                }
                return;
            }
        }
    }
}
