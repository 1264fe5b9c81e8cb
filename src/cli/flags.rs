//! What the library's settings are called on the command line.

use crate::error::{Setting, setting};

/// The flag of a setting, at a value unless that is empty.
pub(super) fn flag(of: Setting, value: &str) -> String {
    if of == setting::FEATURE {
        return format!("`cargo build --release --features {value}`");
    }
    let flag = match of {
        setting::ROWS => "-n".to_owned(),
        setting::OUTPUT => "-o".to_owned(),
        other => format!("--{}", other.name().replace('_', "-")),
    };
    if value.is_empty() { flag } else { format!("{flag} {value}") }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn has(command: &clap::Command, flag: &str) -> bool {
        let name = flag.trim_start_matches('-');
        let is_it = |argument: &clap::Arg| {
            argument.get_long() == Some(name) || argument.get_short().is_some_and(|short| short.to_string() == name)
        };
        command.get_arguments().any(is_it) || command.get_subcommands().any(|command| has(command, flag))
    }

    #[test]
    fn every_setting_that_an_error_names_is_a_flag() {
        let program = crate::cli::Arguments::command();
        for setting in setting::ALL.iter().filter(|setting| **setting != setting::FEATURE) {
            let flag = flag(*setting, "");
            assert!(has(&program, &flag), "{flag}");
        }
        assert_eq!(flag(setting::MAX_TOKENS, "40"), "--max-tokens 40");
    }
}
