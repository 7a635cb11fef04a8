//! A small disk that can really be full: an ext4 image on a loop device, or, for somebody who is not root or has no such
//! device, a tmpfs. It is mounted in a namespace of its own that a small process holds, so nothing of it is left, however a
//! test ends.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Bytes of the disk.
pub const SIZE: u64 = 64 << 20;

pub struct Disk {
    holder: Child,
    is_root: bool,
    /// The folder that it is mounted on, as a process outside of the namespace finds it.
    folder: PathBuf,
}

/// What the holder does: it mounts, says so, and goes when the test does, whose end of the pipe is its input. The image has
/// no blocks that only root may use: the agent may be root, and full has to be full.
const HOLD: &str = r#"
{ [ -n "$1" ] && mkfs.ext4 -q -m 0 "$1" && mount -o loop "$1" "$2"; } >&2 ||
    mount -t tmpfs -o "size=$3" disk "$2" && echo mounted && exec cat"#;

impl Disk {
    /// A disk on this folder, which is made.
    pub fn mount(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        if !is_root {
            command.args(["--map-root-user"]);
        }
        let image = folder.with_extension("img");
        if is_root {
            File::create(&image).unwrap().set_len(SIZE).unwrap();
        }
        command.args(["sh", "-c", HOLD, "hold"]);
        command.arg(if is_root { image.as_os_str() } else { OsStr::new("") });
        command.arg(folder).arg(SIZE.to_string());
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        let mut said = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n", "the disk could not be mounted");
        let root = PathBuf::from(format!("/proc/{}/root", holder.id()));
        let folder = root.join(folder.strip_prefix("/").unwrap());
        Self { holder, is_root, folder }
    }

    /// A path on the disk, from outside.
    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.join(below)
    }

    /// Writes until the kernel says that the disk is full.
    pub fn fill(&self) {
        let mut file = File::create(self.path("filler")).unwrap();
        let mut piece = vec![1; 1 << 20];
        while piece.len() >= 512 {
            match file.write_all(&piece).and_then(|()| file.sync_data()) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
                    piece.truncate(piece.len() / 2);
                }
            }
        }
    }

    pub fn empty(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().unwrap();
    }
}

/// A program that sees the disk.
pub fn command(disk: Option<&Disk>, program: &str) -> Command {
    let Some(disk) = disk else { return Command::new(program) };
    let mut command = Command::new("nsenter");
    command.args(["--target", &disk.holder.id().to_string(), "--mount"]);
    if !disk.is_root {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.arg("--").arg(program);
    command
}
