//! The bar of a pull or an import by hand: drawn on a terminal, and nowhere else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;

use super::exit::Output;
use crate::{
    import::ImportProgress,
    pull::{Progress, Stage},
};

const REDRAW: Duration = Duration::from_millis(100);

/// Draws until the pull's end of the channel goes, or the task is aborted; either way the line is cleared.
pub(super) async fn show(mut receiver: watch::Receiver<Progress>, output: Output) {
    let bar = Bar::new(output);
    while receiver.changed().await.is_ok() {
        let progress = receiver.borrow_and_update().clone();
        bar.0.set_length(progress.bytes_total);
        bar.0.set_position(progress.bytes_done);
        bar.0.set_message(message(&progress));
        tokio::time::sleep(REDRAW).await;
    }
}

/// The same for an import.
pub(super) async fn show_import(mut receiver: watch::Receiver<ImportProgress>, output: Output) {
    let bar = Bar::new(output);
    while receiver.changed().await.is_ok() {
        let progress = *receiver.borrow_and_update();
        bar.0.set_length(progress.bytes_total);
        bar.0.set_position(progress.bytes_done);
        bar.0.set_message("importing");
        tokio::time::sleep(REDRAW).await;
    }
}

/// Clears its line when dropped, so that the last words stand alone.
struct Bar(ProgressBar);

impl Bar {
    fn new(output: Output) -> Self {
        let target = match output {
            Output::Text => ProgressDrawTarget::stderr(),
            Output::Json => ProgressDrawTarget::hidden(),
        };
        let bar = Self(ProgressBar::with_draw_target(None, target));
        let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.0.set_style(style);
        }
        bar
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn message(progress: &Progress) -> String {
    let stage = match progress.stage {
        Stage::Manifest => "asking S3",
        Stage::Checking => "looking at what is there",
        Stage::Fetching => "fetching",
        Stage::WaitingForWindow => "waiting for a window",
        Stage::Verifying => "verifying",
        Stage::Publishing => "publishing",
        Stage::Complete => "complete",
    };
    if progress.trouble.is_empty() { stage.to_owned() } else { format!("{stage} ({})", progress.trouble) }
}
