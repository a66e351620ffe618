//! Servers that stand still, delay, lose, overtake or say too much.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use super::{bench, check_sums, peer, server};
use crate::process::{Server, pace};

#[test]
fn a_server_that_stands_still_is_seen_by_every_message_that_was_due() {
    const STILL: Duration = Duration::from_millis(300);
    let url = peer(|mut stream| {
        let (mut buffer, mut messages) = ([0; 4096], 0);
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            let before = messages;
            messages += len / 64;
            if before < 100 && messages >= 100 {
                pace(STILL);
            }
            if stream.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
    });
    let still_us = STILL.as_micros() as f64;
    let (output, json) = bench(&url, &["-d", "600ms", "--warmup", "0s", "--rate", "1k"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    check_sums(&json, "open");
    assert_eq!(json["messages"]["asked"], 600);
    assert!(json["latency_us"]["max"].as_f64().unwrap() >= 0.99 * still_us, "{}", json["latency_us"]);
    // At least 299 messages were due meanwhile, of which two thirds waited for a third of the time or longer: 198 of
    // 600 are more than the tenth that p90 leaves out.
    assert!(json["latency_us"]["p90"].as_f64().unwrap() >= still_us / 3.0, "{}", json["latency_us"]);
    // In a closed loop nobody asks meanwhile: the pause is one slow answer.
    let (output, json) = bench(&url, &["-d", "600ms", "--warmup", "0s"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(json["latency_us"]["max"].as_f64().unwrap() >= 0.99 * still_us);
}

#[test]
fn delays_of_the_server_are_in_every_latency() {
    let (_directory, server) = server("delay:time=40ms", &[]);
    for url in &server.urls {
        for others in [["--pipeline", "2"], ["--rate", "100"]] {
            let (output, json) = bench(url, &[&others[..], &["-d", "400ms"]].concat());
            assert_eq!(output.code, Some(0), "{url} {}", output.stderr);
            assert!(json["latency_us"]["min"].as_f64().unwrap() >= 39_900.0, "{url} {}", json["latency_us"]);
        }
    }
}

#[test]
fn lost_datagrams_are_counted_and_the_loop_goes_on() {
    let (_directory, server) = server("drop:rate=20%,seed=3", &[]);
    for url in server.urls.iter().filter(|url| url.starts_with("udp") || url.starts_with("unix-dgram")) {
        for others in [["--pipeline", "4"], ["--rate", "1k"]] {
            // Answers that a busy machine delays for so long are lost as well; a second has some that it does not.
            let others = [&others[..], &["--lost-after", "20ms", "-d", "1s"]].concat();
            let (output, json) = bench(url, &others);
            assert_eq!(output.code, Some(0), "{url} {}", output.stderr);
            check_sums(&json, url);
            assert!(json["messages"]["lost"].as_u64().unwrap() > 0, "{url}");
            assert!(json["messages"]["answered"].as_u64().unwrap() > 4, "{url}");
        }
    }
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", silent.local_addr().unwrap());
    let (output, json) = bench(&url, &["--lost-after", "20ms"]);
    assert_eq!(output.code, Some(4), "{}", output.stderr);
    check_sums(&json, "silent");
    assert_eq!(json["messages"]["lost"], json["messages"]["asked"]);
}

#[test]
fn datagrams_that_overtake_each_other_are_known_by_what_they_say() {
    let server = Server::start(&["udp://127.0.0.1:0"], &["-q", "-t", "delay:time=3ms,jitter=3ms,seed=1"]);
    let (output, json) = bench(server.url(), &["--pipeline", "32", "--lost-after", "5s"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let messages = &json["messages"];
    assert_eq!((&messages["wrong"], &messages["lost"]), (&0.into(), &0.into()), "{messages}");
    assert!(messages["answered"].as_u64().unwrap() > 32);
}

#[test]
fn answers_that_nobody_asked_for_are_told() {
    let url = peer(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&[&buffer[..len], b"more"].concat()).is_err() {
                break;
            }
        }
    });
    let (output, _) = bench(&url, &["--timeout", "300ms"]);
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    // A datagram may come twice.
    let twice = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", twice.local_addr().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = twice.recv_from(&mut buffer) {
            let _ = twice.send_to(&buffer[..len], from);
            let _ = twice.send_to(&buffer[..len], from);
        }
    });
    let (output, json) = bench(&url, &[]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(json["messages"]["unasked"].as_u64().unwrap() > 0, "{json}");
}
