//! The `instil` program: a thin shell around the library of the same name.

fn main() -> std::process::ExitCode {
    instil::cli::main()
}
