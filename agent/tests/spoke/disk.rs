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

/// The same for an image that is there already. Two of them have one id, and may be mounted at once.
const HOLD_XFS: &str = r#"mount -t xfs -o loop,nouuid "$1" "$2" >&2 && echo mounted && exec cat"#;

/// 64 MiB with an XFS in which files can share blocks, which ext4 cannot do. Not every machine can make one:
/// `mkfs.xfs --unsupported -m reflink=1,rmapbt=0 -d agcount=1`, and `zstd -19`.
const XFS: &[u8] = include_bytes!("xfs.img.zst");

impl Disk {
    /// A disk on this folder, which is made.
    pub fn mount(folder: &Path) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let image = is_root.then(|| folder.with_extension("img"));
        if let Some(image) = &image {
            File::create(image).unwrap().set_len(SIZE).unwrap();
        }
        Self::hold(folder, image.as_deref(), HOLD).expect("the disk could not be mounted")
    }

    /// A disk on which files can share blocks; or why there can be none here.
    pub fn mount_xfs(folder: &Path) -> Result<Self, &'static str> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can mount an image");
        }
        let image = folder.with_extension("img");
        fs::write(&image, zstd::decode_all(XFS).unwrap()).unwrap();
        Self::hold(folder, Some(&image), HOLD_XFS).ok_or("no XFS, or no loop device, on this machine")
    }

    fn hold(folder: &Path, image: Option<&Path>, script: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let is_root = image.is_some();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        if !is_root {
            command.args(["--map-root-user"]);
        }
        command.args(["sh", "-c", script, "hold"]);
        command.arg(image.map_or(OsStr::new(""), Path::as_os_str));
        command.arg(folder).arg(SIZE.to_string());
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        let mut said = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        if said != "mounted\n" {
            holder.wait().unwrap();
            return None;
        }
        let root = PathBuf::from(format!("/proc/{}/root", holder.id()));
        let folder = root.join(folder.strip_prefix("/").unwrap());
        Some(Self { holder, is_root, folder })
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
