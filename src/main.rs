//! The command line of tieout; see `cli`.

#[global_allocator]
static ALLOCATOR: tieout::memory::Allocator = tieout::memory::Allocator;

fn main() -> std::process::ExitCode {
    tieout::cli::main()
}
