//! Places at which a test may interfere: `TIEOUT_FAILPOINT=NAME:CHANCE` (in a thousand) ends the process there, as `kill -9`
//! would; `NAME:hold:PATH` holds the thread there for as long as the file PATH exists. Only in builds with debug assertions;
//! elsewhere nothing of it is left.

/// Ends the process here, or holds the thread, if the environment asks for it.
pub fn reach(name: &str) {
    if cfg!(debug_assertions) {
        imp::reach(name);
    }
}

mod imp {
    use std::{
        hash::{BuildHasher, Hasher, RandomState},
        path::PathBuf,
        sync::OnceLock,
        time::Duration,
    };

    enum Act {
        End { chance: u64 },
        Hold { while_there: PathBuf },
    }

    pub fn reach(name: &str) {
        static ASKED: OnceLock<Option<(String, Act)>> = OnceLock::new();
        let asked = ASKED.get_or_init(|| {
            let text = std::env::var("TIEOUT_FAILPOINT").ok()?;
            let (name, act) = text.split_once(':')?;
            let act = match act.strip_prefix("hold:") {
                Some(path) => Act::Hold { while_there: path.into() },
                None => Act::End { chance: act.parse().ok()? },
            };
            Some((name.to_string(), act))
        });
        let Some((at, act)) = asked else { return };
        if at != name {
            return;
        }
        match act {
            Act::End { chance } if RandomState::new().build_hasher().finish() % 1000 < *chance => std::process::abort(),
            Act::End { .. } => {}
            Act::Hold { while_there } => {
                while while_there.exists() {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}
