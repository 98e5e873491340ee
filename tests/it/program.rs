//! The built program as a running process: started, asked over HTTP, stopped.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// A tieout that serves HTTP; it ends with this.
pub struct Running {
    child: Child,
    address: String,
    /// What it says.
    hear: std::sync::mpsc::Receiver<String>,
}

impl Running {
    /// Starts it and waits until it has said where it listens.
    pub fn start(command: &mut Command) -> Running {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let (said, hear) = std::sync::mpsc::channel();
        let mut running = Running { child, address: String::new(), hear };
        let child = &mut running.child;
        let pipes: [Box<dyn Read + Send>; 2] = [Box::new(child.stdout.take().expect("a pipe")), Box::new(child.stderr.take().expect("a pipe"))];
        for pipe in pipes {
            let said = said.clone();
            // Reads on until the end, so that the program never waits for a reader.
            let read = move || BufReader::new(pipe).lines().map_while(Result::ok).for_each(|line| drop(said.send(line)));
            std::thread::Builder::new().name("output".into()).spawn(read).expect("a thread starts");
        }
        drop(said);
        let mut heard = Vec::new();
        loop {
            let line = running.hear.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("no address was said, but {heard:?}"));
            if let Some((_, rest)) = line.split_once("http://") {
                running.address = rest.split(['/', ' ']).next().expect("an address").to_string();
                return running;
            }
            heard.push(line);
        }
    }

    /// Where it listens, as `--url` takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Another process of the same run, at its own address.
    pub fn at(&self, address: &str) -> Asked {
        Asked { address: address.into() }
    }

    /// The processes that it has started.
    pub fn children(&self) -> Vec<u32> {
        let pid = self.child.id();
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("Linux tells");
        list.split_whitespace().map(|pid| pid.parse().expect("a number")).collect()
    }

    /// Takes the address that it says next: what it had is served anew.
    pub fn moved(&mut self, within: Duration) {
        let until = Instant::now() + within;
        while let Ok(line) = self.hear.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if let Some((_, rest)) = line.split_once("http://") {
                self.address = rest.split(['/', ' ']).next().expect("an address").to_string();
                return;
            }
        }
        panic!("no new address was said");
    }

    /// Waits until a folder has a file of such a name.
    pub fn until_file(&self, folder: &Path, wished: impl Fn(&str) -> bool) {
        let began = Instant::now();
        let has = || std::fs::read_dir(folder).into_iter().flatten().flatten().any(|file| wished(&file.file_name().to_string_lossy()));
        while !has() {
            assert!(began.elapsed() < Duration::from_secs(60), "{} has no such file", folder.display());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn asked(&self) -> Asked {
        Asked { address: self.address.clone() }
    }

    /// The body of a GET, as text.
    pub fn text(&self, path: &str) -> std::io::Result<(u16, String)> {
        self.asked().text(path)
    }

    /// The answer to a GET, as JSON.
    pub fn get(&self, path: &str) -> serde_json::Value {
        self.asked().get(path)
    }

    /// Asks until the answer is as wished; how long it took.
    pub fn until(&self, path: &str, wished: impl Fn(&serde_json::Value) -> bool) -> Duration {
        self.asked().until(path, wished)
    }

    /// Whether it says a line with all of these words within the time.
    pub fn says(&self, words: &[&str], within: Duration) -> bool {
        let until = Instant::now() + within;
        while let Ok(line) = self.hear.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if words.iter().all(|word| line.contains(word)) {
                return true;
            }
            println!("not it: {line}");
        }
        false
    }

    /// Asks it to stop as Ctrl-C does, and expects that it stops well.
    pub fn stop(mut self) {
        let asked = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().expect("kill is there");
        assert!(asked.success());
        let status = self.child.wait().expect("it ends");
        let said: Vec<String> = self.hear.iter().collect();
        assert!(status.success(), "it ended with {status}: {said:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Something that answers over HTTP.
pub struct Asked {
    address: String,
}

impl Asked {
    /// The body of a GET, as text.
    pub fn text(&self, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no HTTP"))?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Ok((status, body.to_string()))
    }

    /// The answer to a GET, as JSON.
    pub fn get(&self, path: &str) -> serde_json::Value {
        let (_, body) = self.text(path).expect("it answers");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path} is no JSON ({e}): {body}"))
    }

    /// Asks until the answer is as wished; how long it took.
    pub fn until(&self, path: &str, wished: impl Fn(&serde_json::Value) -> bool) -> Duration {
        let began = Instant::now();
        loop {
            let answer = self.get(path);
            if wished(&answer) {
                return began.elapsed();
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{path} still is {answer:#}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}
