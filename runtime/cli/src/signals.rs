//! Ctrl-C and SIGTERM: the first asks, the second kills.

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::failure::{Exit, OrFail, Outcome};

/// Whether somebody asked this process to stop. Clones watch the same signals.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Starts to watch for SIGINT and SIGTERM on a thread of its own, so that blocking commands notice them too.
    ///
    /// # Errors
    /// When the system refuses a signal handler or a thread.
    pub(crate) fn on_signals() -> Outcome<Self> {
        let (asked, watcher) = watch::channel(false);
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .or_fail(Exit::Machine, || "could not watch for Ctrl-C")?;
        let (mut interrupts, mut terminations) = {
            let _inside = runtime.enter();
            let watch = |kind| signal(kind).or_fail(Exit::Machine, || "could not watch for Ctrl-C");
            (watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?)
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    for is_second in [false, true] {
                        tokio::select! {
                            _ = interrupts.recv() => {}
                            _ = terminations.recv() => {}
                        }
                        if is_second {
                            eprintln!("vivarium: stopped at once by a second signal");
                            std::process::exit(Exit::Interrupted as i32);
                        }
                        asked.send_replace(true);
                    }
                });
            })
            .or_fail(Exit::Machine, || "could not watch for Ctrl-C")?;
        Ok(Self(watcher))
    }

    /// Whether a signal has come.
    pub(crate) fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for a signal.
    pub(crate) async fn asked(mut self) {
        // The sender lives as long as the process.
        self.0.wait_for(|asked| *asked).await.ok();
    }
}
