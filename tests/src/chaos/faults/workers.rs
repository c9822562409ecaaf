//! Workers that die, hang and lie.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use super::Fault;
use super::schedule::{Effect, Injector};
use crate::chaos::work::{Order, TTL};

pub(in crate::chaos) async fn inject(injector: &Injector, fault: Fault, rng: &mut StdRng) -> Effect {
    let workers = &injector.workers;
    let order = match fault {
        Fault::WorkerHang => Order::Hang(TTL + Duration::from_millis(rng.random_range(500..5_000))),
        Fault::DoubleReport => Order::Repeat,
        Fault::LateReport => Order::Delay,
        Fault::WorkerDrop => Order::Die,
        _ => {
            let at = rng.random_range(0..workers.library.len());
            let running = workers.library[at].kill().await;
            return Effect {
                target: format!("worker {at} with {running} jobs"),
                took_effect: running > 0,
            };
        }
    };
    let took_effect = workers.some_liar(rng).obey(order).await;
    Effect {
        target: format!("{order:?}"),
        took_effect,
    }
}
