//! The cluster file: who runs one dataflow together.

use std::{path::Path, sync::Arc};

use super::{
    At, File, Need, Problems, Report, check,
    codes::Code,
    fill, read,
    resolve::settings::{default, span_of},
    shape, yaml,
};
use crate::plan::cluster::{Cluster, Secret};

/// Bytes that a secret must have: one that can be guessed proves nothing.
const SECRET_MIN: usize = 16;

/// Loads a cluster file; `index` says which of its processes this is, instead of the file's `index`.
///
/// # Errors
/// Every problem of the file.
pub fn load_cluster(path: &Path, index: Option<usize>) -> Result<Cluster, Problems> {
    let mut report = Report::default();
    read(&mut report, path);
    from_report(report, &|name| std::env::var(name).ok(), index)
}

/// As [`load_cluster`], from a text.
///
/// # Errors
/// Every problem of the text.
pub fn cluster_text((name, text): (&str, &str), env: &dyn Fn(&str) -> Option<String>, index: Option<usize>) -> Result<Cluster, Problems> {
    from_report(Report::of(vec![Arc::new(File { name: name.into(), text: text.into() })]), env, index)
}

fn from_report(mut report: Report, env: &dyn Fn(&str) -> Option<String>, index: Option<usize>) -> Result<Cluster, Problems> {
    let folder = Path::new(&report.files[0].name).parent().unwrap_or(Path::new("")).to_path_buf();
    let mut cluster = None;
    if !report.has_errors()
        && let Some(mut tree) = yaml::parse(&mut report, 0)
    {
        fill::fill_file(&mut report, 0, &mut tree, &fill::Surroundings { env, folder: &folder }, Need::Connections);
        let at = At { file: 0, node: &tree };
        check::check(&mut report, at, &shape::CLUSTER);
        if !report.has_errors() {
            cluster = resolve(&mut report, at, index);
        }
    }
    cluster.filter(|_| !report.has_errors()).ok_or_else(|| report.finish())
}

fn resolve(report: &mut Report, at: At, index: Option<usize>) -> Option<Cluster> {
    let name = at.get_text("name")?;
    if name.is_empty() || name.len() > 100 || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b)) {
        let place = at.get("name")?.place();
        report.error(Code::BadValue, &place, format!("`{name}` is no name of a cluster")).hint("up to 100 small letters, digits, `.`, `_` and `-`");
    }
    let secret = at.get("secret")?;
    let text = secret.text()?;
    if text.len() < SECRET_MIN {
        report
            .error(Code::BadValue, &secret.place(), format!("the secret is shorter than {SECRET_MIN} bytes"))
            .hint("a long random one: `openssl rand -hex 32`");
    }
    let processes = at.get("processes")?;
    let list: Vec<(String, At)> = if processes.is_list() {
        processes.items().map(|at| (at.text().unwrap_or_default().to_string(), at)).collect()
    } else {
        let (count, address) = (number(processes, "count")?, processes.get("address")?);
        if !address.text()?.contains("{index}") {
            report.error(Code::BadValue, &address.place(), "the address is the same for all").hint("`{index}` stands for the number of the process, from 0");
        }
        (0..count).map(|index| (address.text().unwrap_or_default().replace("{index}", &index.to_string()), address)).collect()
    };
    for (place, (address, at)) in list.iter().enumerate() {
        if !is_address(address) {
            report
                .error(Code::BadValue, &at.place(), format!("`{address}` is no address of a process"))
                .hint("`host:port`, for example `tieout-0.tieout:7400`");
        } else if list[..place].iter().any(|(other, _)| other == address) {
            report.error(Code::BadValue, &at.place(), format!("`{address}` is there twice")).hint("each process has an address of its own");
        }
    }
    let index = match (index, at.get("index")) {
        (Some(index), at) => (index, at),
        (None, Some(at)) => {
            // The names of a stateful set's processes end in their numbers.
            let text = at.text().unwrap_or_default();
            match text.rsplit('-').next().unwrap_or_default().parse() {
                Ok(index) => (index, Some(at)),
                Err(_) => {
                    report
                        .error(Code::BadValue, &at.place(), format!("`{text}` does not say which process this is"))
                        .hint("a number from 0, or a name that ends in one, such as `tieout-2`");
                    return None;
                }
            }
        }
        (None, None) => {
            report
                .error(Code::MissingKey, &at.place(), "nothing says which of the processes this is")
                .hint("`index: ${env:TIEOUT_INDEX}` in the file, set for each process");
            return None;
        }
    };
    let (index, from) = index;
    let Some((own, _)) = list.get(index) else {
        let place = from.unwrap_or(processes).place();
        report.error(Code::BadValue, &place, format!("there is no process {index}")).hint(format!("the cluster has {} processes, from 0", list.len()));
        return None;
    };
    let listen = at.get("listen");
    if let Some(at) = listen.filter(|at| !at.text().is_some_and(is_address)) {
        report.error(Code::BadValue, &at.place(), "this is no address to listen on").hint("`host:port`, for example `0.0.0.0:7400`");
    }
    Some(Cluster {
        name: name.to_string(),
        secret: Secret::new(text),
        encrypts: at.get_text("encryption").unwrap_or_else(|| default(&shape::CLUSTER, "encryption")) == "tls",
        listen: listen.and_then(At::text).unwrap_or(own).to_string(),
        index,
        hello_max: span_of(at, "cluster", "hello_max"),
        silence_max: span_of(at, "cluster", "silence_max"),
        start_max: span_of(at, "cluster", "start_max"),
        strangers_max: number(at, "strangers_max").unwrap_or_else(|| default(&shape::CLUSTER, "strangers_max").parse().expect("the default is a number")),
        processes: list.into_iter().map(|(address, _)| address).collect(),
    })
}

fn number(at: At, key: &str) -> Option<usize> {
    at.get(key)?.scalar()?.as_number()?.parse().ok()
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/') && (!host.contains(':') || host.ends_with(']'));
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "name: orders\nsecret: ${env:SECRET}\nprocesses: [a:1, b:2]\n";

    fn load(text: &str, index: Option<usize>) -> Result<Cluster, String> {
        let env = |name: &str| match name {
            "SECRET" => Some("not to be shown anywhere".to_string()),
            "SHORT" => Some("hidden-short".to_string()),
            "HOSTNAME" => Some("tieout-1".to_string()),
            "COUNT" => Some("3".to_string()),
            _ => None,
        };
        cluster_text(("cluster.yaml", text), &env, index).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_list_or_a_stateful_set() {
        let list = load(FILE, Some(1)).expect("it holds");
        assert_eq!((list.processes.as_slice(), list.index, list.listen.as_str()), (&["a:1".to_string(), "b:2".to_string()][..], 1, "b:2"));
        assert_eq!((list.silence_max.as_secs(), list.strangers_max, list.encrypts), (5, 64, true));
        assert!(!load(&format!("{FILE}encryption: none\n"), Some(1)).expect("it holds").encrypts);
        assert!(!format!("{list:?}").contains("shown"), "a secret is not shown");
        let set = "name: o\nsecret: ${env:SECRET}\nprocesses: { count: \"${env:COUNT}\", address: \"t-{index}.t:7400\" }\nindex: \"${env:HOSTNAME}\"\nlisten: 0.0.0.0:7400\nsilence_max: 2s\n";
        let set = load(set, None).expect("it holds");
        assert_eq!((set.processes.last().map(String::as_str), set.index, set.listen.as_str()), (Some("t-2.t:7400"), 1, "0.0.0.0:7400"));
    }

    #[test]
    fn what_does_not_hold_is_said_without_the_secret() {
        for (from, to, index, words) in [
            ("", "", Some(2), "there is no process 2"),
            ("", "", None, "which of the processes this is"),
            ("${env:SECRET}", "in-the-file-itself", Some(0), "stands in the file itself"),
            ("${env:SECRET}", "${env:SECRET:-in-the-file-itself}", Some(0), "stands in the file itself"),
            ("${env:SECRET}", "in-the-file-itself-${env:SECRET}", Some(0), "stands in the file itself"),
            ("${env:SECRET}", "${env:SHORT}", Some(0), "shorter than 16 bytes"),
            ("b:2", "a:1", Some(0), "there twice"),
            ("b:2", "b", Some(0), "no address of a process"),
            ("[a:1, b:2]", "{ count: 2, address: a:1 }", Some(0), "the same for all"),
            ("orders", "Orders!", Some(0), "no name of a cluster"),
            ("name:", "encryption: ssl\nname:", Some(0), "`ssl` is not known here"),
            ("processes", "procesess", Some(0), "procesess"),
        ] {
            let said = load(&FILE.replacen(from, to, usize::from(!from.is_empty())), index).expect_err(words);
            assert!(said.contains(words), "{words}: {said}");
            assert!(["not to be", "hidden-short", "the-file-itself"].iter().all(|secret| !said.contains(secret)), "{said}");
        }
    }
}
