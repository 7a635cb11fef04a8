//! The progress bar of a pull by hand: drawn where there is a terminal, and nowhere else.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use rustix::{
    fs::OFlags,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{
    crash::bucket,
    server::{Fault, Server},
    world::{MIB, noise},
};

fn pull(server: &Server, to: &Path, output: &str, errors: Stdio) -> io::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nave-agent"));
    command.args(["pull", "s3://bucket/vit/1.0", "-o", output, "--to"]).arg(to);
    command.env_clear().envs([
        ("AWS_ENDPOINT_URL", format!("http://{}", server.address).as_str()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
        ("TERM", "xterm"),
    ]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn()?.wait_with_output()
}

/// The same with its errors on a terminal of 100 columns; what that showed.
fn pull_on_a_terminal(server: &Server, to: &Path, output: &str) -> (Output, String) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    tcsetwinsize(&ours, Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let mut options = File::options();
    options.read(true).write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed());
    let theirs = options.open(std::ffi::OsStr::from_bytes(name.as_bytes())).unwrap();
    let reading = thread::spawn(move || {
        let mut shown = Vec::new();
        // It ends with an error, when nobody has the terminal's other side any more.
        File::from(ours).read_to_end(&mut shown).ok();
        String::from_utf8(shown).unwrap()
    });
    let ended = pull(server, to, output, theirs.into()).unwrap();
    (ended, reading.join().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bar_is_drawn_on_a_terminal_and_cleared_and_nowhere_else() {
    let files: BTreeMap<_, _> = [("model.bin".to_owned(), noise(1, 2 * MIB))].into();
    let server = bucket(&files).await;
    let folder = tempfile::tempdir().unwrap();
    let to = |name: &str| folder.path().join(name);

    server.script(|seen| seen.range.map(|_| Fault::Slow(4 << 20)));
    let (ended, shown) = pull_on_a_terminal(&server, &to("terminal"), "text");
    assert!(ended.status.success(), "{ended:?}\n{shown}");
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(said.starts_with("1 files, 2.1 MB in ") && said.contains("verified: sha256:"), "{said}");
    for words in ["fetching [", "/2.00 MiB", "/s "] {
        assert!(shown.contains(words), "{words:?} is not in {shown:?}");
    }
    // Each state is drawn over the one before, and the last line is empty again.
    assert!(shown.matches("2.00 MiB").count() > 1 && !shown.contains('\n'), "{shown:?}");
    let last = shown.rsplit("\x1b[2K").next().unwrap();
    assert!(last.trim().is_empty(), "{last:?} is left of {shown:?}");

    let (ended, shown) = pull_on_a_terminal(&server, &to("json"), "json");
    assert!(ended.status.success() && shown.is_empty(), "{ended:?}\n{shown:?}");
    serde_json::from_slice::<serde_json::Value>(&ended.stdout).unwrap();
    let ended = pull(&server, &to("pipe"), "text", Stdio::piped()).unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}
