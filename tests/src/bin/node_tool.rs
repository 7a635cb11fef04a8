//! What a pod of the node tests runs besides Nave: the pause container, and a few questions to a container from inside.
//! One static binary, because the images hold nothing else. Never part of a release.

use std::{io::Read, net::TcpListener, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};

/// `node_tool VERB ...`; without a verb it is the pause container.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let answer = match words.as_slice() {
        [] | ["pause"] => pause().await,
        ["id"] => id(),
        ["cat", path] => std::fs::read_to_string(path).map_err(|error| format!("cat {path}: {error}")),
        ["write", path] => std::fs::write(path, "x")
            .map(|()| String::new())
            .map_err(|error| format!("write {path}: {error}")),
        ["serve", address] => serve(address),
        other => Err(format!("unknown verb {other:?}")),
    };
    match answer {
        Ok(text) => say(&mut std::io::stdout(), &text),
        Err(text) => {
            say(&mut std::io::stderr(), &format!("{text}\n"));
            ExitCode::FAILURE
        }
    }
}

fn say(to: &mut dyn std::io::Write, text: &str) -> ExitCode {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn pause() -> Result<String, String> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| format!("listen for SIGTERM: {error}"))?;
    terminate.recv().await;
    Ok(String::new())
}

/// Who this process is to the kernel: the lines of /proc/self/status that name it.
fn id() -> Result<String, String> {
    let status =
        std::fs::read_to_string("/proc/self/status").map_err(|error| format!("read own status: {error}"))?;
    let named = ["Uid:", "Gid:", "CapEff:", "Seccomp:", "NoNewPrivs:"];
    Ok(status
        .lines()
        .filter(|line| named.iter().any(|name| line.starts_with(name)))
        .map(|line| format!("{line}\n"))
        .collect())
}

/// Answers every connection with 200 and nothing else, for probes.
fn serve(address: &str) -> Result<String, String> {
    let listener = TcpListener::bind(address).map_err(|error| format!("listen on {address}: {error}"))?;
    for connection in listener.incoming() {
        let Ok(mut connection) = connection else { continue };
        let mut request = [0; 1024];
        let answered = connection.read(&mut request).and_then(|_| {
            std::io::Write::write_all(
                &mut connection,
                b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            )
        });
        if let Err(error) = answered {
            return Err(format!("answer on {address}: {error}"));
        }
    }
    Ok(String::new())
}
