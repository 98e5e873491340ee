//! The processes that run one plan together, as they show themselves.

use std::sync::{Arc, Mutex};

use crate::plan::Plan;

/// One process, as it last showed itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Bytes of memory that it holds.
    pub memory_bytes: u64,
    /// Chunks that are handed out and not decoded yet.
    pub pending: u64,
    /// Where it serves HTTP, as it says itself.
    pub http: Option<String>,
}

/// All of them, by index; clones are the same.
#[derive(Clone, Debug)]
pub struct Processes(Arc<Mutex<Vec<Shown>>>);

impl Processes {
    pub fn of(plan: &Plan) -> Processes {
        Processes(Arc::new(Mutex::new(vec![Shown::default(); plan.process.of])))
    }

    pub fn show(&self, index: usize, memory_bytes: u64, pending: u64, http: Option<String>) {
        if let Some(process) = self.0.lock().expect("nobody panics while holding it").get_mut(index) {
            *process = Shown { memory_bytes, pending, http };
        }
    }

    pub fn list(&self) -> Vec<Shown> {
        self.0.lock().expect("nobody panics while holding it").clone()
    }
}
