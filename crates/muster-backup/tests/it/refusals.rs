//! Whatever is wrong is refused with a reason, and nothing is left of the attempt.

use std::path::Path;

use jiff::{Timestamp, ToSpan};
use muster_backup::{At, Catalog, Error, RestoreRequest, Trust, restore, silent, verify};

use crate::bed::{Bed, options};

/// Refused with a text that has `part`, with nothing left.
async fn refused(bed: &Bed, name: &str, at: Option<At>, change: impl FnOnce(&mut RestoreRequest), part: &str) {
    let mut request = bed.request(name, at);
    change(&mut request);
    let existed = bed.data(name).exists();
    let error = restore(&request, &silent()).await.expect_err(name).to_string();
    assert!(error.contains(part), "{name}: {error}");
    assert_eq!(bed.data(name).exists(), existed, "{name}");
    assert!(!bed.data(&format!("{name}.restoring")).exists(), "{name}");
}

/// Changes a file, tries, and puts it back.
async fn with_changed(bed: &Bed, file: &Path, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>, part: &str) {
    let good = std::fs::read(file).unwrap();
    match change(good.clone()) {
        Some(bytes) => std::fs::write(file, bytes).unwrap(),
        None => std::fs::remove_file(file).unwrap(),
    }
    refused(bed, "changed", None, |_| (), part).await;
    let verified = verify(&bed.repository(), None, &bed.trust(), bed.dir.path(), &silent()).await;
    assert!(verified.is_err(), "{}", file.display());
    std::fs::write(file, good).unwrap();
}

fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_is_refused() {
    let bed = Bed::start(options(), |_| ()).await;
    bed.node.enqueue(0..200).await;
    bed.create().await;
    let backup = bed.node.point();
    for round in 0..4 {
        bed.node.enqueue(1_000 * (round + 1)..1_000 * (round + 1) + 50).await;
        bed.archived().await;
    }
    let end = bed.node.point();

    // Objects that are not what was written.
    let (manifest, files, log) = (bed.files("backups").remove(0), bed.files("files"), bed.files("log"));
    let size = std::fs::metadata(&manifest).unwrap().len() as usize;
    for at in [0, size / 3, size / 2, size - 10] {
        with_changed(
            &bed,
            &manifest,
            |bytes| Some(flipped(bytes, at)),
            "not what was written",
        )
        .await;
    }
    with_changed(
        &bed,
        &manifest,
        |bytes| Some(bytes[..size / 2].to_vec()),
        "ends too early",
    )
    .await;
    for file in &files {
        let size = std::fs::metadata(file).unwrap().len() as usize;
        if size > 0 {
            with_changed(
                &bed,
                file,
                |bytes| Some(flipped(bytes, size / 2)),
                "not what was written",
            )
            .await;
            with_changed(
                &bed,
                file,
                |bytes| Some(bytes[..size - 1].to_vec()),
                "not what was written",
            )
            .await;
        }
        with_changed(
            &bed,
            file,
            |bytes| Some([&bytes[..], b"x"].concat()),
            "not what was written",
        )
        .await;
        with_changed(&bed, file, |_| None, "is missing").await;
    }
    let stretch = log.last().unwrap();
    let size = std::fs::metadata(stretch).unwrap().len() as usize;
    for at in [5, size / 2, size - 1] {
        with_changed(&bed, stretch, |bytes| Some(flipped(bytes, at)), "not what was written").await;
    }
    with_changed(
        &bed,
        stretch,
        |bytes| Some(bytes[..size - 1].to_vec()),
        "not what was written",
    )
    .await;
    // A stretch in the place of another.
    let other = std::fs::read(&log[log.len() - 2]).unwrap();
    with_changed(&bed, stretch, |_| Some(other), "not what was written").await;
    let middle = &log[log.len() - 2];
    let good = std::fs::read(middle).unwrap();
    std::fs::remove_file(middle).unwrap();
    refused(&bed, "gap", None, |_| (), "lacks entries").await;
    refused(&bed, "gap", Some(At::Index(end.index)), |_| (), "lacks entries").await;
    std::fs::write(middle, good).unwrap();

    // Points that are not there.
    let range = "what is here reaches from";
    refused(&bed, "past", Some(At::Index(backup.index - 1)), |_| (), range).await;
    refused(&bed, "future", Some(At::Index(end.index + 1)), |_| (), range).await;
    let hour = |hours: i64| Some(At::Instant(Timestamp::now() + hours.hours()));
    refused(&bed, "past", hour(-1), |_| (), range).await;
    refused(&bed, "future", hour(1), |_| (), range).await;

    // Whose backups, and where to.
    let dir = bed.dir.path();
    let stranger = muster_backup::SigningKey::create(&dir.join("stranger")).unwrap();
    let strange = Trust::Keys(vec![stranger.verify_key()]);
    refused(
        &bed,
        "other-key",
        None,
        |request| request.trust = strange,
        "not the one to be trusted",
    )
    .await;
    refused(
        &bed,
        "name",
        None,
        |request| request.backup = Some("x".into()),
        "no backup named x",
    )
    .await;
    refused(
        &bed,
        "which",
        None,
        |request| request.from_cluster = Some(7),
        "has no backups of cluster",
    )
    .await;
    refused(
        &bed,
        "stranger",
        None,
        |request| request.nodes[0].node = 9,
        "not one of the new cluster",
    )
    .await;
    refused(
        &bed,
        "nobody",
        None,
        |request| request.nodes.clear(),
        "no node is named",
    )
    .await;
    std::fs::create_dir(bed.data("full")).unwrap();
    std::fs::write(bed.data("full").join("something"), "precious").unwrap();
    refused(&bed, "full", None, |_| (), "is not empty").await;
    assert_eq!(
        std::fs::read_to_string(bed.data("full").join("something")).unwrap(),
        "precious"
    );

    // A manifest that was carried to another cluster's place.
    let foreign = dir.join("backups").join(format!("cluster-{:032x}", 7)).join("backups");
    std::fs::create_dir_all(&foreign).unwrap();
    std::fs::copy(&manifest, foreign.join(manifest.file_name().unwrap())).unwrap();
    refused(&bed, "which", None, |_| (), "several clusters").await;
    refused(
        &bed,
        "foreign",
        None,
        |request| request.from_cluster = Some(7),
        "belongs to cluster",
    )
    .await;
    std::fs::remove_dir_all(foreign.parent().unwrap()).unwrap();

    // Newer than this program.
    let text = std::fs::read_to_string(&manifest).unwrap();
    let newer = text.replacen("\"format\":1", "\"format\":2", 1);
    let line = newer.lines().next().unwrap();
    std::fs::write(&manifest, format!("{line}\n{{}}\n")).unwrap();
    refused(
        &bed,
        "newer",
        None,
        |request| request.trust = Trust::Unsigned,
        "use a newer program",
    )
    .await;
    refused(
        &bed,
        "unsigned",
        None,
        |request| request.trust = Trust::AnySigner,
        "is not signed",
    )
    .await;
    std::fs::write(&manifest, text).unwrap();
    let catalog = Catalog::load(&bed.repository(), &bed.trust()).await.unwrap();
    assert!(matches!(catalog.backup(Some("none")), Err(Error::NoSuchBackup { .. })));

    // And after all that it is still whole.
    let restored = bed.restore("whole", None).await.unwrap();
    assert_eq!(restored.state_hash, end.hash);
}
