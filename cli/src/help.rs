//! Help texts beyond those of the arguments.

use std::fmt::Write;
use std::time::Duration;

use resay::options::KEYS;

// Lines of at most 78 characters, so that a usual terminal does not break them.

pub(crate) const OVERVIEW: &str = "\
Try it:
  resay serve tcp://127.0.0.1:8888 -t uppercase
  resay send tcp://127.0.0.1:8888 hello            # HELLO
  resay repl tcp://127.0.0.1:8888
  resay bench tcp://127.0.0.1:8888 -c 64 --expect uppercase
  resay serve unix:/tmp/e.sock --control /tmp/e.ctl
  resay ctl /tmp/e.ctl stats
  resay top /tmp/e.ctl

`resay help COMMAND` explains a command, with examples. `resay help serve`
describes URLs, the options of listeners and the grammar of chains.

Exit status:
  0  done
  1  unexpected answer
  2  usage or configuration: a bad argument, URL, option or chain
  3  refused or unreachable
  4  timeout
  5  reset or early end, or standard output cannot be written
  6  a plugin or transform cannot be used";

pub(crate) const STATUSES: &str = "\
Exit status: 0 done, 1 unexpected answer, 2 usage or configuration,
3 refused or unreachable, 4 timeout, 5 reset or early end, 6 plugin.";

pub(crate) const URLS: &str = "\
URLs:
  tcp://127.0.0.1:8888   tcp://[::1]:0   tcp://localhost:8888
      TCP. With port 0 the system chooses a port. Without a host, as in
      tcp://:8888, Resay listens on all addresses, IPv4 and IPv6. A link-local
      address takes its interface: tcp://[fe80::1%eth0]:8888.
  udp://127.0.0.1:8888
      UDP.
  unix:/run/e.sock   unix-dgram:/run/e.sock   unix-seqpacket:/run/e.sock
      Unix sockets: stream, datagram, seqpacket. A path may be relative.
  tls://:8443?cert=FILE&key=FILE   unix+tls:/run/e.sock
      TLS over TCP, or over a unix stream socket. Listeners need a certificate
      and its key; more options: client_ca, client, alpn, min, tickets.
  unix:@name   unix-dgram:@name   unix-seqpacket:@name
      Linux abstract names: no file, and any local user may connect.
  fd:3   systemd:NAME   systemd:
      For serve only: an inherited socket, as an open descriptor or from the
      service manager.";

pub(crate) const CHAINS: &str = "\
Chains:
  uppercase
      One transform.
  uppercase | identity
      One after another. Quote the bar: it has a meaning in the shell.
  uppercase:unicode=1
      With options: name:key=value,key=value. Quote a value that contains a
      comma, a bar or a blank.
  ./libmine.so   ./libmine.so#second
      A plugin file (its name has a slash), and one of several transforms in it.
  identity
      The plain echo, like an empty chain.
  A bare name is looked up among the bundled transforms, then in the plugin
  directories: --plugin-dir, RESAY_PLUGIN_PATH, and lib/resay/plugins beside
  the command's own directory. `resay plugin list` lists them.";

/// For the manual page of the command itself.
pub(crate) const ENVIRONMENT: &str = "\
Environment:
  RESAY_PLUGIN_PATH
      Directories in which plugins are looked up by name, after those of
      --plugin-dir; absolute, separated by colons.
  RESAY_PLUGIN_OWNERS
      Users whose plugin files may be loaded beside root's and one's own, by
      their numbers, separated by commas: RESAY_PLUGIN_OWNERS=1000.
  RESAY_NO_URING
      If it is 1, the kernel is not asked for io_uring, as with --backend epoll:
      for sandboxes that kill a process which asks.
  XDG_STATE_HOME
      Where `resay repl` keeps its history, in resay/history; ~/.local/state if
      it is not set.";

/// The options of listeners, from the library's own table.
pub(crate) fn options() -> String {
    let mut text = String::from(
        "Options of a listener, in the query of its URL (tcp://:8888?backlog=64), or of\n\
         all listeners with --set:",
    );
    for key in KEYS {
        let fallback = match key.fallback {
            "" => String::new(),
            fallback => format!(" [default: {fallback}]"),
        };
        let kinds: Vec<_> = key.applies.iter().map(ToString::to_string).collect();
        // Writing to a String does not fail.
        let _ = write!(text, "\n  {}={}{fallback}\n      {}", key.name, key.value, key.help);
        let _ = write!(text, "\n      for {}", kinds.join(", "));
    }
    text + "\n  Sizes take k, m, g (powers of 1024); durations take us, ms, s, m, h."
}

/// A time limit of the command line: 0 is none.
pub(crate) fn limit(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}
