//! The integration tests of tieout, in one binary.

mod oracle;
mod tidy;
