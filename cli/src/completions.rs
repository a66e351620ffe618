//! `resay completions`: what a shell needs to complete the command's arguments.
//!
//! clap_complete writes the scripts, which know commands and options. For the values that it cannot know, chains, URLs and
//! options of listeners, a script asks the command itself:
//!
//! ```text
//! key ──> script ── --line 'resay serve -t upp' ──> `line` ──> `candidates` ── lines of text, tab, help ──> shell
//! ```

mod candidates;
mod line;

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
    /// Print what the last word of this line may become
    #[arg(long, value_name = "LINE", hide = true)]
    line: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Runs the command; `command` is the whole of `resay`.
pub(crate) fn run(arguments: &Arguments, mut command: clap::Command) -> Result<Exit, Failure> {
    command.build();
    if let Some(line) = &arguments.line {
        return output::print(answer(arguments.shell, &command, line)).map(|()| Exit::Done);
    }
    let generate = |shell: clap_complete::Shell| {
        let mut script = Vec::new();
        let (mut command, name) = (command.clone(), command.get_name().to_owned());
        clap_complete::generate(shell, &mut command, name, &mut script);
        String::from_utf8_lossy(&script).into_owned()
    };
    let script = match arguments.shell {
        Shell::Bash => {
            let script = generate(clap_complete::Shell::Bash)
                .replace("complete -F _resay ", "complete -F _resay_values ");
            script + VALUES_BASH
        }
        Shell::Zsh => generate(clap_complete::Shell::Zsh)
            .replace(":_default'", ":_resay_values'")
            // The words as they are typed; what follows leaves some out.
            .replacen(
                "_resay() {\n",
                "_resay() {\n    local -a resay_words=(\"${(@)words[1,CURRENT]}\")\n",
                1,
            )
            .replacen("autoload -U is-at-least\n\n", &format!("autoload -U is-at-least\n\n{VALUES_ZSH}"), 1),
        Shell::Fish => {
            let script = generate(clap_complete::Shell::Fish);
            let lines = script.lines().map(|line| match line.strip_suffix(" -r") {
                Some(_) => format!("{line} -a \"(__resay_values)\"\n"),
                None => format!("{line}\n"),
            });
            lines.collect::<String>() + VALUES_FISH
        }
    };
    output::print(script).map(|()| Exit::Done)
}

const VALUES_BASH: &str = include_str!("completions/values.bash");
const VALUES_ZSH: &str = include_str!("completions/values.zsh");
const VALUES_FISH: &str = include_str!("completions/values.fish");

/// A line a candidate: its text and, but for bash, what it means. For bash the word so far comes first.
fn answer(shell: Shell, command: &clap::Command, line: &str) -> String {
    let words = line::words(line).unwrap_or_default();
    let found = candidates::candidates(command, &words);
    match shell {
        Shell::Bash => {
            let word = words.last().into_iter();
            word.chain(found.iter().map(|found| &found.text)).map(|text| format!("{text}\n")).collect()
        }
        Shell::Zsh | Shell::Fish => {
            found.iter().map(|found| format!("{}\t{}\n", found.text, found.help)).collect()
        }
    }
}
