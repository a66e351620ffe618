//! The machine, as far as it tells.

use std::fs;

use nix::sys::utsname::uname;

/// The processor's name.
pub fn processor() -> Option<String> {
    model_in(&fs::read_to_string("/proc/cpuinfo").ok()?)
}

fn model_in(cpuinfo: &str) -> Option<String> {
    let value = |key: &str| {
        let mut pairs = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    };
    // x86 has the first, many ARM boards the second.
    value("model name").or_else(|| value("Model"))
}

/// The system, such as `Linux`, and its release.
pub fn system() -> (String, String) {
    uname().map_or_else(
        |_| (std::env::consts::OS.to_owned(), String::new()),
        |name| {
            let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
            (text(name.sysname()), text(name.release()))
        },
    )
}

/// How many processes wanted a core in the last minute, as the system writes it.
pub fn load_average() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_a_name() {
        assert_eq!(model_in("processor\t: 0\nmodel name\t: A B  C\n").as_deref(), Some("A B  C"));
        assert_eq!(model_in("Model : D\n").as_deref(), Some("D"));
        assert_eq!(model_in("processor: 1\n"), None);
    }

    #[test]
    fn the_system_has_a_name_and_a_release() {
        let (name, release) = system();
        assert_eq!(name.to_lowercase(), std::env::consts::OS);
        assert!(release.starts_with(|c: char| c.is_ascii_digit()), "{release}");
    }
}
