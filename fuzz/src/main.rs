//! All targets in one program, under the fuzzer of LLVM. `MUSTER_FUZZ_TARGET` names the one to run; `list` shows all.
//!
//! `scripts/fuzz` builds it with coverage and runs it. The targets lie with the decoders, in `fuzz.rs` of each crate.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Target = (&'static str, fn(&[u8]));

fn targets() -> impl Iterator<Item = Target> {
    let all = [
        muster_store::fuzz::TARGETS,
        muster_raft::fuzz::TARGETS,
        muster_api::fuzz::TARGETS,
        muster_server::fuzz::TARGETS,
        muster_cli::fuzz::TARGETS,
    ];
    all.into_iter().flatten().copied()
}

fn chosen() -> fn(&[u8]) {
    static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("MUSTER_FUZZ_TARGET").unwrap_or_default();
        if let Some((_, target)) = targets().find(|(known, _)| *known == name) {
            return target;
        }
        targets().for_each(|(known, _)| println!("{known}"));
        std::process::exit(i32::from(name != "list"));
    })
}

fuzz_target!(|bytes: &[u8]| chosen()(bytes));
