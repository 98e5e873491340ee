//! A plain HTTP client for one GET: what `differences` and `rows` ask a running tieout.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::Fail;

const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer's status and body.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Gets a path of `url` (`http://host:port`).
pub fn get(url: &str, path: &str) -> Result<Answer, Fail> {
    let host = url.strip_prefix("http://").map(|h| h.trim_end_matches('/')).filter(|h| !h.is_empty() && !h.contains('/'));
    let host = host.ok_or_else(|| Fail::Usage(format!("`--url {url}` is no address; for example http://127.0.0.1:7171")))?;
    let address = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) { host.to_string() } else { format!("{host}:80") };
    let unreachable =
        |e: std::io::Error| Fail::Retry(format!("no tieout answers at {url}: {e}; start one with `tieout run`, or name its address with `--url`"));
    let mut stream = TcpStream::connect(&address).map_err(unreachable)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(unreachable)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept: */*\r\n\r\n").map_err(unreachable)?;
    read(BufReader::new(stream)).map_err(unreachable)
}

fn read(mut stream: impl BufRead) -> std::io::Result<Answer> {
    let bad = || std::io::Error::new(std::io::ErrorKind::InvalidData, "the answer is not HTTP");
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(bad)?;
    let (mut chunked, mut length) = (false, None);
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let head = line.trim().to_ascii_lowercase();
        if head.is_empty() {
            break;
        }
        chunked |= head == "transfer-encoding: chunked";
        length = head.strip_prefix("content-length:").and_then(|n| n.trim().parse::<u64>().ok()).or(length);
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(|_| bad())?;
            if size == 0 {
                break;
            }
            (&mut stream).take(size).read_to_end(&mut body)?;
            line.clear();
            stream.read_line(&mut line)?;
        }
    } else {
        match length {
            Some(length) => stream.take(length).read_to_end(&mut body)?,
            None => stream.read_to_end(&mut body)?,
        };
    }
    Ok(Answer { status, body })
}

/// A part of a path or query with everything but letters, digits and `-._~` escaped.
pub fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
        out
    })
}
