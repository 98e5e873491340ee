//! Places at which a test may end the process, as `kill -9` would: `TIEOUT_FAILPOINT=NAME:CHANCE` (in a thousand). Only in
//! builds with debug assertions; elsewhere nothing of it is left.

/// Ends the process here, if the environment asks for it and chance does.
pub fn reach(name: &str) {
    if cfg!(debug_assertions) {
        imp::reach(name);
    }
}

mod imp {
    use std::{
        hash::{BuildHasher, Hasher, RandomState},
        sync::OnceLock,
    };

    pub fn reach(name: &str) {
        static ASKED: OnceLock<Option<(String, u64)>> = OnceLock::new();
        let asked = ASKED.get_or_init(|| {
            let text = std::env::var("TIEOUT_FAILPOINT").ok()?;
            let (name, chance) = text.split_once(':')?;
            Some((name.to_string(), chance.parse().ok()?))
        });
        if let Some((at, chance)) = asked
            && at == name
            && RandomState::new().build_hasher().finish() % 1000 < *chance
        {
            std::process::abort();
        }
    }
}
