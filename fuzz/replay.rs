// Included by the tests of every crate that has targets for the fuzzer: what it found worth keeping, tried again.

use std::fmt::Write as _;
use std::path::Path;

/// Every input of the corpora once; each line of a corpus is one input, hexadecimal.
///
/// `MUSTER_WRITE_SEEDS=1` adds the seeds of this crate to the corpora first.
#[test]
fn the_corpora_do_no_harm() {
    let write = std::env::var_os("MUSTER_WRITE_SEEDS").is_some_and(|set| set == "1");
    for (name, target) in TARGETS {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/corpus")
            .join(format!("{name}.hex"));
        let mut corpus = std::fs::read_to_string(&file).unwrap_or_default();
        for (_, seed) in seeds().into_iter().filter(|(of, _)| write && of == name) {
            let line = seed.iter().fold(String::new(), |mut line, byte| {
                let _ = write!(line, "{byte:02x}");
                line
            });
            if !corpus.lines().any(|known| known == line) {
                corpus.push_str(&line);
                corpus.push('\n');
            }
        }
        if write {
            std::fs::write(&file, &corpus).expect("the corpus is writable");
        }
        assert!(!corpus.is_empty(), "{} is missing or empty", file.display());
        for (number, line) in corpus.lines().enumerate() {
            let byte = |at: usize| {
                let byte = u8::from_str_radix(&line[at..at + 2], 16);
                byte.unwrap_or_else(|fault| panic!("{name}, line {}: {fault}", number + 1))
            };
            let input: Vec<u8> = (0..line.len()).step_by(2).map(byte).collect();
            target(&input);
        }
    }
}
