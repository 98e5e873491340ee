//! What a cluster file says, resolved: which processes run one dataflow together, and how they know each other.

use std::time::Duration;

/// Several processes that run one dataflow.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Tells this cluster from others; processes of another name are refused.
    pub name: String,
    pub secret: Secret,
    /// What the processes exchange is encrypted.
    pub encrypts: bool,
    /// Where each process is reached by the others, as `host:port`, in the order of their indexes.
    pub processes: Vec<String>,
    /// Which of them this process is.
    pub index: usize,
    /// Where this process listens for the others.
    pub listen: String,
    /// How long a connection may take to prove that it is from a process of the cluster.
    pub hello_max: Duration,
    /// How long a process may be silent before it counts as lost.
    pub silence_max: Duration,
    /// How long a start waits for all processes.
    pub start_max: Duration,
    /// Connections that have not proved anything yet, at once; of more than that the oldest are cut.
    pub strangers_max: usize,
}

/// A secret: it is used, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// Its bytes, for whoever proves something with it.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
