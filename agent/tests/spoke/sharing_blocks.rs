//! On a file system on which files can share blocks, the runtime's folder has files of its own that cost no room.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use nave_proto::v1::entry_report::Phase;

use crate::{
    disk::Disk,
    process::Process,
    site::{Site, files_below, snapshot},
};

/// Where the bytes of a file lie on the disk, and whether they are another file's too.
fn extents(path: &Path) -> Vec<(String, bool)> {
    let told = Command::new("filefrag").arg("-v").arg(path).output().expect("filefrag, of e2fsprogs");
    let told = String::from_utf8(told.stdout).unwrap();
    // `   0:        0..     767:       1392..      2159:    768:             last,shared,eof`
    let rows = told.lines().map(|row| row.split(':').map(str::trim).collect::<Vec<_>>());
    let rows = rows.filter(|row| row.len() > 4 && row[0].parse::<u32>().is_ok());
    rows.map(|row| (row[2].to_owned(), row[row.len() - 1].contains("shared"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr)] // What is skipped is said.
async fn where_files_can_share_blocks_a_runtimes_files_are_its_own_and_cost_no_room() {
    let site = Site::new().await;
    let disk = match Disk::mount_xfs(&site.state_dir()) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let weights: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let entry = site.publish("1", &weights);
    site.hub.tell(snapshot(1, &[entry])).await;
    let process = Process::start(&site, Some(&disk));
    site.hub.until_phase("defects", "1", Phase::Serving).await;
    assert!(process.terminate().success());

    let models = disk.path("models/defects");
    let served = models.join(fs::read_link(models.join("current")).unwrap()).join("model.bin");
    let blobs = files_below(&disk.path("store/blobs"));
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    let blob = blobs.iter().find(|blob| size(blob) == weights.len() as u64).expect("the weights' blob");
    assert_ne!(fs::metadata(&served).unwrap().ino(), fs::metadata(blob).unwrap().ino());
    let (of_served, of_blob) = (extents(&served), extents(blob));
    assert!(!of_served.is_empty() && of_served.iter().all(|(_, shared)| *shared), "{of_served:?}");
    assert_eq!(of_served, of_blob, "one and the same blocks");

    // Whoever may write to it writes to its own file: what is in the store stays right.
    fs::set_permissions(&served, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&served, b"other").unwrap();
    assert!(fs::read(blob).unwrap() == weights);
}
