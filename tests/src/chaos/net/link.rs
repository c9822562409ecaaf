//! A proxy: one listener, and for each connection two pumps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::flow::Flow;

/// Read at once at most.
const CHUNK: usize = 16 << 10;
/// Chunks on their way at most: then the sender's own window fills, as it does in a slow network.
const CHUNKS: usize = 256;

/// Listens for connections to a port of this machine until the task is aborted; open ones stay.
pub(super) async fn open(
    address: SocketAddr,
    port: u16,
    there: Arc<Flow>,
    back: Arc<Flow>,
) -> std::io::Result<JoinHandle<()>> {
    let listener = TcpListener::bind(address).await?;
    Ok(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, port, Arc::clone(&there), Arc::clone(&back)));
        }
    }))
}

async fn serve(near: TcpStream, port: u16, there: Arc<Flow>, back: Arc<Flow>) {
    if there.mode().refuse || back.mode().refuse {
        there.connection_lost();
        return;
    }
    let (mut cut_there, mut cut_back) = (there.watch_cuts(), back.watch_cuts());
    let relay = async {
        // The first packets of a connection go both ways.
        there.note(1);
        back.note(1);
        there.passable().await;
        back.passable().await;
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else {
            return;
        };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::select! {
            () = pump(near_in, far_out, &there) => {}
            () = pump(far_in, near_out, &back) => {}
        }
    };
    tokio::select! {
        () = relay => {}
        _ = cut_there.changed() => there.connection_lost(),
        _ = cut_back.changed() => back.connection_lost(),
    }
}

/// Ends when either side closes or the connection is to be cut.
async fn pump(from: OwnedReadHalf, to: OwnedWriteHalf, flow: &Flow) {
    let (chunks, arriving) = mpsc::channel(CHUNKS);
    let taking = async {
        take_in(from, chunks, flow).await;
        // What is on its way still arrives.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = taking => {}
        () = hand_out(to, arriving, flow) => {}
    }
}

async fn take_in(mut from: OwnedReadHalf, chunks: mpsc::Sender<(Instant, Vec<u8>)>, flow: &Flow) {
    loop {
        let mut chunk = vec![0; CHUNK];
        match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => chunk.truncate(count),
        }
        flow.note(chunk.len());
        let mode = flow.mode();
        let delay = mode.delay + mode.jitter.mul_f64(rand::rng().random_range(0.0..1.0));
        if chunks.send((Instant::now() + delay, chunk)).await.is_err() {
            return;
        }
    }
}

async fn hand_out(mut to: OwnedWriteHalf, mut arriving: mpsc::Receiver<(Instant, Vec<u8>)>, flow: &Flow) {
    while let Some((due, chunk)) = arriving.recv().await {
        tokio::time::sleep_until(due).await;
        flow.passable().await;
        let rate = flow.mode().rate;
        if rate > 0 {
            tokio::time::sleep(Duration::from_secs_f64(chunk.len() as f64 / rate as f64)).await;
        }
        if let Some(allowed) = flow.allowed(chunk.len()) {
            let _ = to.write_all(&chunk[..allowed]).await;
            flow.connection_lost();
            return;
        }
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}
