//! `instil completions`: a completion script for a shell.

use clap::{Args, CommandFactory};

use super::console::Answer;

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  instil completions bash > ~/.local/share/bash-completion/completions/instil")]
pub(crate) struct CompletionsArguments {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: &CompletionsArguments) -> Answer {
    let mut command = super::Arguments::command();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "instil", &mut script);
    Answer::text(String::from_utf8_lossy(&script))
}
