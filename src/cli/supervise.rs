//! `tieout run --processes N` and `--restart`: the same program as processes of its own, started together, and together again.
//!
//! One that is lost ends the others (exit code 75), as those of a cluster do; a supervisor is what starts them again, and what ends
//! one that hangs. Each gets one end of a connection as its standard input: it sends a byte each second, and ends with the
//! connection.

use std::{
    ffi::OsString,
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use super::{Fail, RETRY};
use crate::{cluster::hello, pipeline::spawn, row::hex, signals::Signals};

/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(50);
/// How long the others may take to end once one has, before they are killed: one that hangs does not end by itself. After a failure they
/// have nothing left to do.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_AFTER_FAILURE: Duration = Duration::from_secs(4);
/// A process says each second that it lives; who has not for so long hangs, and is killed.
const PULSE: Duration = Duration::from_secs(1);
const SILENT: Duration = Duration::from_secs(10);
/// Between two starts: the first time, at most, and how long a run must last to begin with the first again.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
const LASTED: Duration = Duration::from_secs(60);
const SECRET: &str = "TIEOUT_CLUSTER_SECRET";
/// Set for processes that a supervisor has started: their standard input ends with it. What it says stands before their log lines.
const SUPERVISED: &str = "TIEOUT_SUPERVISED";

/// Ends this process with its supervisor, if it has one: nobody else would start it again, or stop it.
pub fn end_with_supervisor() {
    if std::env::var_os(SUPERVISED).is_none() {
        return;
    }
    // Started as `/proc/self/exe`, it would be listed as `exe`; where that can't be said, it is.
    #[cfg(target_os = "linux")]
    let _ = std::fs::write("/proc/self/comm", env!("CARGO_PKG_NAME"));
    let wait = || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        tracing::error!("the supervisor is gone: this process ends");
        std::process::exit(i32::from(RETRY));
    };
    spawn("supervisor", wait);
    spawn("alive", say_alive);
}

/// Which of the supervisor's processes this is, where it has several: they log to one place.
pub fn number() -> Option<u16> {
    std::env::var(SUPERVISED).ok()?.parse().ok()
}

/// Tells the supervisor that this process lives, as long as it does.
fn say_alive() {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        let Ok(mut way) = std::io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from) else { return };
        while way.write_all(b".").is_ok() {
            std::thread::sleep(PULSE);
        }
    }
}

/// What is started.
pub struct Supervised {
    /// Processes of a cluster of their own; none: this one process, alone or of a cluster that a file describes.
    pub processes: Option<usize>,
    /// The name of that cluster.
    pub name: String,
    /// They are started again.
    pub restart: bool,
    /// Where the first one serves HTTP; the others follow on the next ports.
    pub listen: SocketAddr,
}

/// Runs this program's own command line in processes, without the flags that led here, until they are done.
pub fn run(supervised: &Supervised) -> Result<(), Fail> {
    let internal = |error: std::io::Error| Fail::Internal(format!("the processes can't be started or watched: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(internal)?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(internal)?;
        let (mut pause, mut asked, mut ran) = (PAUSE, false, false);
        loop {
            let began = Instant::now();
            match Running::start(supervised) {
                Ok(mut running) => {
                    ran = true;
                    let ends = running.until_ended(&mut signals, &mut asked).await.map_err(internal)?;
                    let code = verdict(&ends);
                    if code == 0 {
                        return Ok(());
                    }
                    if !supervised.restart || asked || code != RETRY {
                        return Err(Fail::Child(code));
                    }
                }
                // What went once will go again: there are too many processes, or the disk is full.
                Err(error) if ran => tracing::error!(
                    "the processes can't be started again: {error}; see that this machine has memory and room in its folder for temporary files"
                ),
                Err(error) => return Err(internal(error)),
            }
            if began.elapsed() > LASTED {
                pause = PAUSE;
            }
            tracing::warn!("all are started again in {pause:?}");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = signals.next() => return Ok(()),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    })
}

/// The exit code for all of them: that of who will not do better next time, then of who may.
fn verdict(ends: &[ExitStatus]) -> u8 {
    // Who was killed by a signal may.
    let codes = || ends.iter().map(|end| end.code().map_or(RETRY, |code| u8::try_from(code).unwrap_or(RETRY)));
    codes().find(|code| ![0, RETRY].contains(code)).or_else(|| codes().find(|code| *code == RETRY)).unwrap_or(0)
}

/// Processes that were started together.
struct Running {
    children: Vec<Charge>,
    /// The cluster file that was made for them.
    file: Option<PathBuf>,
}

impl Running {
    fn start(supervised: &Supervised) -> std::io::Result<Running> {
        let mut running = Running { children: Vec::new(), file: None };
        let arguments = own_arguments(supervised.processes.is_some());
        let Some(processes) = supervised.processes else {
            running.children.push(Charge::start(this_program()?.args(arguments).env(SUPERVISED, "alone"))?);
            return Ok(running);
        };
        let file = cluster_file(&supervised.name, processes)?;
        let secret = hex(&hello::random::<32>());
        running.file = Some(file.clone());
        for process in 0..processes {
            let mut listen = supervised.listen;
            if listen.port() != 0 {
                listen.set_port(listen.port().wrapping_add(u16::try_from(process).unwrap_or(0)));
            }
            let mut command = this_program()?;
            command.args(&arguments).arg("--cluster").arg(&file).args(["--process", &process.to_string(), "--listen", &listen.to_string()]);
            running.children.push(Charge::start(command.env(SECRET, &secret).env(SUPERVISED, process.to_string()))?);
        }
        Ok(running)
    }

    /// Waits until all have ended; asks them to, when somebody asks this one (then it was `asked`), and kills who does not.
    async fn until_ended(&mut self, signals: &mut Signals, asked: &mut bool) -> std::io::Result<Vec<ExitStatus>> {
        let (mut first, mut killed) = (None, false);
        loop {
            for one in self.children.iter_mut().filter(|one| one.end.is_none()) {
                one.look()?;
            }
            let ends: Vec<ExitStatus> = self.children.iter().filter_map(|one| one.end).collect();
            if ends.len() == self.children.len() {
                return Ok(ends);
            }
            let since = if ends.is_empty() { None } else { Some(*first.get_or_insert_with(Instant::now)) };
            let patience = if verdict(&ends) == 0 { PATIENCE } else { PATIENCE_AFTER_FAILURE };
            if !killed && since.is_some_and(|since: Instant| since.elapsed() > patience) {
                killed = true;
                for one in self.children.iter_mut().filter(|one| one.end.is_none()) {
                    tracing::warn!(pid = one.child.id(), "does not end though others have: it is killed");
                    one.child.kill()?;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                // One hears it, and tells the others.
                () = signals.next() => {
                    *asked = true;
                    self.ask_to_stop();
                }
            }
        }
    }

    fn ask_to_stop(&self) {
        #[cfg(unix)]
        for one in self.children.iter().filter(|one| one.end.is_none()) {
            let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&one.child), rustix::process::Signal::TERM);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for one in self.children.iter_mut().filter(|one| one.end.is_none()) {
            let _ = one.child.kill();
            let _ = one.child.wait();
        }
        if let Some(file) = &self.file {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// A process that is looked after.
struct Charge {
    child: Child,
    end: Option<ExitStatus>,
    /// The other end of its standard input, and when it last said that it lives.
    #[cfg(unix)]
    way: std::os::unix::net::UnixStream,
    heard: Option<Instant>,
    looked: Instant,
}

impl Charge {
    #[cfg(unix)]
    fn start(command: &mut Command) -> std::io::Result<Charge> {
        let (way, theirs) = std::os::unix::net::UnixStream::pair()?;
        way.set_nonblocking(true)?;
        let child = command.stdin(std::os::fd::OwnedFd::from(theirs)).spawn()?;
        Ok(Charge { child, end: None, way, heard: None, looked: Instant::now() })
    }

    #[cfg(not(unix))]
    fn start(command: &mut Command) -> std::io::Result<Charge> {
        let child = command.stdin(std::process::Stdio::piped()).spawn()?;
        Ok(Charge { child, end: None, heard: None, looked: Instant::now() })
    }

    /// Has it ended? One that hangs is killed.
    fn look(&mut self) -> std::io::Result<()> {
        self.end = self.child.try_wait()?;
        #[cfg(unix)]
        while std::io::Read::read(&mut self.way, &mut [0; 64]).is_ok_and(|bytes| bytes > 0) {
            self.heard = Some(Instant::now());
        }
        // Who was asleep itself, as when it was suspended with them, has heard nothing since.
        if std::mem::replace(&mut self.looked, Instant::now()).elapsed() > SILENT / 2 {
            self.heard = self.heard.map(|_| Instant::now());
        }
        if self.end.is_none() && self.heard.is_some_and(|heard| heard.elapsed() > SILENT) {
            tracing::error!(pid = self.child.id(), "has not said for {SILENT:?} that it lives: it is killed");
            self.child.kill()?;
            self.heard = None;
        }
        Ok(())
    }
}

/// This program as it runs, under the name by which it was called: on Linux also when another one has taken its place on the disk
/// meanwhile, or nothing has. A new version comes with a new supervisor, so that all processes of a run are of one.
fn this_program() -> std::io::Result<Command> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new("/proc/self/exe");
        std::env::args_os().next().map(|name| command.arg0(name));
        Ok(command)
    }
    #[cfg(not(target_os = "linux"))]
    std::env::current_exe().map(Command::new)
}

/// The arguments of this process without those that are for a supervisor, and without what each of its processes gets anew.
fn own_arguments(of_cluster: bool) -> Vec<OsString> {
    without(std::env::args_os().skip(1), &["--restart"], if of_cluster { &["--processes", "--listen"] } else { &["--processes"] })
}

/// Leaves out some flags, and some options with their values.
fn without(arguments: impl Iterator<Item = OsString>, flags: &[&str], options: &[&str]) -> Vec<OsString> {
    let (mut kept, mut skip) = (Vec::new(), false);
    for argument in arguments {
        if std::mem::take(&mut skip) {
            continue;
        }
        let text = argument.to_string_lossy();
        skip = options.contains(&&*text);
        let joined = options.iter().any(|option| text.strip_prefix(option).is_some_and(|rest| rest.starts_with('=')));
        if !skip && !joined && !flags.contains(&&*text) {
            kept.push(argument);
        }
    }
    kept
}

/// Writes the file of a cluster on this machine, on ports that are free now.
fn cluster_file(name: &str, processes: usize) -> std::io::Result<PathBuf> {
    let any = || TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
    // All at once, so that none comes twice.
    let ports = (0..processes).map(|_| any()).collect::<Result<Vec<_>, _>>()?;
    let addresses = ports.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let id = hex(&hello::random::<8>());
    let path = std::env::temp_dir().join(format!("tieout-cluster-{id}.yaml"));
    write_new(&path, &cluster_text(name, &addresses))?;
    Ok(path)
}

fn cluster_text(name: &str, addresses: &[SocketAddr]) -> String {
    let list: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("name: {name}\nsecret: ${{env:{SECRET}}}\nprocesses: [{}]\n", list.join(", "))
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn what_is_for_the_supervisor_is_left_out() {
        let given = ["run", "--processes", "2", "--restart", "--once", "--listen=127.0.0.1:1", "--config", "a b", "--processes=3"];
        let kept = without(given.into_iter().map(OsString::from), &["--restart"], &["--processes", "--listen"]);
        assert_eq!(kept, ["run", "--once", "--config", "a b"]);
    }

    #[test]
    fn who_will_not_do_better_next_time_decides() {
        use std::os::unix::process::ExitStatusExt;
        let ended = |codes: &[i32]| verdict(&codes.iter().map(|code| ExitStatus::from_raw(*code)).collect::<Vec<_>>());
        assert_eq!((ended(&[0, 0]), ended(&[0, 75 << 8]), ended(&[75 << 8, 78 << 8])), (0, 75, 78));
        // Killed by a signal.
        assert_eq!((ended(&[9, 75 << 8]), ended(&[0, 1 << 8])), (75, 1));
    }

    #[test]
    fn the_cluster_file_holds() {
        let addresses = [SocketAddr::from(([127, 0, 0, 1], 4001)), SocketAddr::from(([127, 0, 0, 1], 4002))];
        let env = |name: &str| (name == SECRET).then(|| "0123456789abcdef".to_string());
        let cluster = config::cluster_text(("c.yaml", &cluster_text("orders", &addresses)), &env, Some(1)).expect("it holds");
        assert_eq!((cluster.processes.len(), cluster.listen.as_str()), (2, "127.0.0.1:4002"));
    }
}
