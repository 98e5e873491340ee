//! Checkpoints: what a restart goes on from instead of reading everything again.
//!
//! ```text
//!  workers ─ SavePart ─┐
//!                      ├─▶ taker thread ─▶ data_dir/checkpoints/TICK.entries (what changed), TICK.json (what it all is)
//!  ledger ─ LedgerSave ┘
//! ```
//!
//! A checkpoint is the state as of one closed tick, the *cut*, with the positions that it covers. The tables are copied bit
//! by bit beside the other work; only what changed during the copying is copied at the cut itself. It keeps what records
//! feed; what comes out of SQL is computed again when it is read.
//!
//! Each checkpoint is two files. `TICK.entries` has the entries of the tables that changed since the checkpoint before (the
//! first of a chain has all), in blocks with checksums, and since when differences stand. `TICK.json` names the whole chain
//! of entries with their lengths and checksums, the positions, and the shape of the tables; it is written to another name,
//! synced, and renamed, so that it is there whole or not at all. The newest that is sound is read; older ones are kept as
//! generations. When the changes of a chain outweigh its first, the next checkpoint begins a new one.
//!
//! | file | what |
//! | --- | --- |
//! | `manifest` | `TICK.json`: what a checkpoint is made of |
//! | `entries` | `TICK.entries`: blocks of entries, written and read |
//! | `folder` | the folder: who may use it, which checkpoints are there, which are sound, which go |
//! | `take` | the thread that takes checkpoints |
//! | `changes` | what of a checkpoint still holds for another plan, and what is made again |
//! | `restore` | from a checkpoint back into workers and ledger |

use std::path::PathBuf;

pub mod changes;
pub mod entries;
pub mod folder;
pub mod manifest;
pub mod restore;
pub mod take;

pub use changes::Changes;
pub use folder::{Folder, Found};
pub use manifest::Manifest;
pub use take::Taker;

/// Why something about a checkpoint does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointError {
    /// A stable name, e.g. `CHECKPOINT_UNWRITABLE`.
    pub code: &'static str,
    pub message: String,
    /// What the user can do.
    pub remedy: String,
}

impl std::fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.code, self.message, self.remedy)
    }
}

impl std::error::Error for CheckpointError {}

impl CheckpointError {
    fn unwritable(path: &std::path::Path, error: &std::io::Error) -> CheckpointError {
        CheckpointError {
            code: "CHECKPOINT_UNWRITABLE",
            message: format!("{} can't be written: {error}", path.display()),
            remedy: "check the space and the rights of `data_dir`; until then a restart goes on from the last checkpoint that was complete".into(),
        }
    }

    /// What is there may be sound, and can't be looked at.
    fn unreadable(path: &std::path::Path, error: &std::io::Error) -> CheckpointError {
        CheckpointError {
            code: "CHECKPOINT_UNREADABLE",
            message: format!("{} can't be read: {error}", path.display()),
            remedy: "check the disk and the rights of `data_dir`; or start anew with `tieout run --fresh`, another `data_dir` and empty output topics, which reads everything from the beginning".into(),
        }
    }

    /// A later version took it.
    fn newer(path: &std::path::Path, why: &str) -> CheckpointError {
        CheckpointError {
            code: "CHECKPOINT_NEWER",
            message: format!("{}: {why}", path.display()),
            remedy: "start that version of tieout; or start anew with `tieout run --fresh` and empty output topics, which reads everything from the beginning"
                .into(),
        }
    }

    /// Bytes that are not what was written.
    fn damaged(path: &std::path::Path, why: impl std::fmt::Display) -> CheckpointError {
        CheckpointError {
            code: "CHECKPOINT_DAMAGED",
            message: format!("{}: {why}", path.display()),
            remedy: "an older checkpoint is used, if there is a sound one; look after the disk".into(),
        }
    }
}

/// Where checkpoints of a data directory are.
pub fn folder_of(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join("checkpoints")
}

#[cfg(test)]
mod tests;
