//! What asks this program to stop: SIGINT and SIGTERM, or Ctrl-C where there are no signals.

use std::{sync::Mutex, time::Duration};

/// Signals that come together ask once.
const ONE_QUESTION: Duration = Duration::from_secs(1);

type Act = Box<dyn Fn() + Send>;

/// What is done when this process is asked to stop; a process has one answer to that.
static ACT: Mutex<Option<Act>> = Mutex::new(None);

/// From now on the process does this when it is asked to stop, instead of what it was to do before. Who asks twice does not want to
/// wait for that.
///
/// # Errors
/// The operating system refuses.
pub fn when_asked(act: impl Fn() + Send + 'static) -> std::io::Result<()> {
    // Not while that is being done which this would replace.
    let mut now = ACT.lock().expect("nobody panics while holding it");
    if now.is_none() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _within = runtime.enter();
            Signals::new()?
        };
        std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(hear(signals)))?;
    }
    *now = Some(Box::new(act));
    Ok(())
}

async fn hear(mut signals: Signals) {
    signals.next().await;
    if let Some(act) = ACT.lock().expect("nobody panics while holding it").as_ref() {
        act();
    }
    // A terminal asks its whole group, and a supervisor in it passes that on: that is one question.
    let _ = tokio::time::timeout(ONE_QUESTION, async {
        loop {
            signals.next().await;
        }
    })
    .await;
    signals.next().await;
    std::process::exit(130);
}

/// Heard from the moment it is made.
pub struct Signals {
    #[cfg(unix)]
    both: [tokio::signal::unix::Signal; 2],
}

impl Signals {
    /// Starts to listen, within a runtime.
    ///
    /// # Errors
    /// The operating system refuses.
    #[cfg(unix)]
    pub fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals { both: [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?] })
    }

    /// Waits for the next one.
    #[cfg(unix)]
    pub async fn next(&mut self) {
        let [interrupt, terminate] = &mut self.both;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    pub fn new() -> std::io::Result<Signals> {
        Ok(Signals {})
    }

    #[cfg(not(unix))]
    pub async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
