//! `resay completions`: what a shell needs to complete the command's arguments.

use clap::{Args, ValueEnum};

use crate::exit::{Exit, Failure};
use crate::output;

/// Print completions for a shell
///
/// An installed Resay has them where the shells look; the examples are for a command that was only built.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(resay completions bash)              # in ~/.bashrc
  resay completions zsh > ~/.zfunc/_resay       # a directory of $fpath
  resay completions fish > ~/.config/fish/completions/resay.fish")]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Runs the command; `command` is the whole of `resay`.
pub(crate) fn run(arguments: &Arguments, mut command: clap::Command) -> Result<Exit, Failure> {
    let shell = match arguments.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    output::print(script).map(|()| Exit::Done)
}
