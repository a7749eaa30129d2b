//! WebSockets with real prompts behind them: who hears what, what a lost connection costs, and what a deaf client does to
//! the others.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vivarium_protocol::frame::Frame;
use vivarium_server::ServerConfig;
use vivarium_tests::server::{Heard, Server, Socket};

fn busy(milliseconds: u64, every: u64) -> Value {
    json!({"1": {"class_type": "TestSleepLoop", "inputs": {"milliseconds": milliseconds, "every": every}}})
}

fn busy_with_previews(milliseconds: u64, every: u64) -> Value {
    json!({
        "0": {"class_type": "EmptyImage", "inputs": {"width": 96, "height": 48, "batch_size": 1, "color": 9}},
        "1": {"class_type": "TestSleepLoop", "inputs": {"milliseconds": milliseconds, "every": every, "image": ["0", 0]}}
    })
}

fn is(event: &Value, name: &str) -> bool {
    event["type"] == name
}

/// Names of events, those left out that come in any number.
fn names(events: &[Value]) -> Vec<&str> {
    let names = events.iter().filter_map(|event| event["type"].as_str());
    names.filter(|name| !matches!(*name, "status" | "progress" | "progress_state")).collect()
}

/// Everything that comes until nothing has come for a while.
fn rest(socket: &mut Socket) -> Result<Vec<Heard>> {
    let mut heard = Vec::new();
    while let Some(next) = socket.hear(Duration::from_millis(400))? {
        heard.push(next);
    }
    Ok(heard)
}

#[test]
fn a_client_that_lost_its_connection_gets_what_it_missed() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let mut socket = server.connect(Some("c"))?;
    let prompt = server.submit(&busy(500, 10), Some("c"))?;
    let before = socket.events_until(|event| is(event, "executing"))?;
    drop(socket);
    server.wait(&prompt)?;
    let mut socket = server.connect(Some("c"))?;
    let after = socket.events_of(&prompt)?;
    let (before, after) = (names(&before), names(&after));
    let whole = ["execution_start", "execution_cached", "executing", "executed", "execution_success", "executing"];
    // What was under way when the connection broke may come once more, but nothing is left out.
    let complete = whole.starts_with(&before) && whole.ends_with(&after) && before.len() + after.len() >= whole.len();
    ensure!(complete, "heard {before:?}, then {after:?}");
    Ok(())
}

#[test]
fn what_was_heard_is_not_told_again() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let mut socket = server.connect(Some("c"))?;
    let prompt = server.submit(&busy(1, 10), Some("c"))?;
    socket.events_of(&prompt)?;
    socket.close()?;
    let mut socket = server.connect(Some("c"))?;
    let heard = rest(&mut socket)?;
    ensure!(heard.is_empty(), "heard {heard:?}");
    Ok(())
}

#[test]
fn a_client_that_comes_while_its_prompt_runs_learns_which_node_runs() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let mut first = server.connect(Some("c"))?;
    let prompt = server.submit(&busy(600_000, 1000), Some("c"))?;
    first.events_until(|event| is(event, "executing"))?;
    let mut second = server.connect(Some("c"))?;
    second.events_until(|event| is(event, "executing") && event["data"]["node"] == "1")?;
    server.post("/interrupt", &json!({ "prompt_id": prompt }))?;
    let end = second.events_of(&prompt)?;
    ensure!(end.iter().any(|event| is(event, "execution_interrupted")));
    Ok(())
}

#[test]
fn closing_the_old_socket_does_not_silence_the_new_one() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let old = server.connect(Some("c"))?;
    let mut new = server.connect(Some("c"))?;
    old.close()?;
    let prompt = server.submit(&busy(1, 10), Some("c"))?;
    let events = new.events_of(&prompt)?;
    ensure!(names(&events).contains(&"execution_success"), "{:?}", names(&events));
    Ok(())
}

#[test]
fn a_client_that_never_reads_holds_nobody_up() -> Result<()> {
    let mut config = ServerConfig::default();
    config.limits.socket_bytes = 64 * 1024;
    let server = Server::start(config)?;
    // Opened and never read from; the system's buffers take a little, then nothing.
    let mut deaf = server.connect(Some("deaf"))?;
    let mut other = server.connect(Some("other"))?;
    let noisy = server.submit(&busy_with_previews(1500, 1), Some("deaf"))?;
    let began = Instant::now();
    let mine = server.submit(&busy(1, 10), Some("other"))?;
    let events = other.events_of(&mine)?;
    ensure!(names(&events).contains(&"execution_success"), "{:?}", names(&events));
    ensure!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    // Whether or not it was cut off, it can still learn how its prompt ended.
    let ended = |event: &Value| is(event, "execution_success") && event["data"]["prompt_id"] == noisy.as_str();
    if deaf.events_until(ended).is_err() {
        server.connect(Some("deaf"))?.events_until(ended)?;
    }
    Ok(())
}

#[test]
fn events_of_a_prompt_are_its_clients_alone() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let mut mine = server.connect(Some("mine"))?;
    let mut other = server.connect(Some("other"))?;
    let prompt = server.submit(&busy_with_previews(50, 10), Some("mine"))?;
    mine.events_of(&prompt)?;
    for heard in rest(&mut other)? {
        match heard {
            Heard::Event(event) => ensure!(is(&event, "status"), "the other hears {event}"),
            Heard::Frame(_) => anyhow::bail!("the other sees the preview"),
        }
    }
    Ok(())
}

#[test]
fn without_a_client_id_everybody_hears_progress_and_nobody_the_rest() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let mut socket = server.connect(None)?;
    ensure!(socket.client_id.len() == 32, "{}", socket.client_id);
    let prompt = server.submit(&busy(100, 10), None)?;
    server.wait(&prompt)?;
    let mut progress = 0;
    for heard in rest(&mut socket)? {
        let Heard::Event(event) = heard else { anyhow::bail!("a frame") };
        let name = event["type"].as_str().unwrap_or_default().to_owned();
        ensure!(matches!(&*name, "status" | "progress" | "progress_state"), "{event}");
        progress += usize::from(name == "progress");
    }
    ensure!(progress > 0, "no progress was told");
    Ok(())
}

#[test]
fn previews_come_in_the_form_that_the_client_can_read() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    for (client, flags) in [("old", false), ("new", true)] {
        let mut socket = server.connect(Some(client))?;
        if flags {
            socket.say(&json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}}))?;
            let answer = socket.event()?;
            ensure!(
                answer["type"] == "feature_flags" && answer["data"]["supports_preview_metadata"] == true,
                "{answer}"
            );
        }
        let prompt = server.submit(&busy_with_previews(if flags { 60 } else { 61 }, 20), Some(client))?;
        server.wait(&prompt)?;
        let frames: Vec<_> = rest(&mut socket)?
            .into_iter()
            .filter_map(|heard| match heard {
                Heard::Frame(bytes) => Some(Frame::decode(&bytes)),
                Heard::Event(_) => None,
            })
            .collect::<Result<_, _>>()?;
        ensure!(!frames.is_empty(), "{client}: no previews");
        for frame in frames {
            match frame {
                Frame::PreviewImage { image, .. } => ensure!(!flags && vivarium_image_codec::probe(&image)?.width > 0),
                Frame::PreviewImageWithMetadata { metadata, image } => {
                    ensure!(flags && vivarium_image_codec::probe(&image)?.width > 0);
                    ensure!(metadata.prompt_id == prompt && metadata.node_id == "1", "{metadata:?}");
                }
                other => anyhow::bail!("{client}: {other:?}"),
            }
        }
    }
    Ok(())
}

/// Everything binary that a client hears of a prompt.
fn frames(server: &Server, prompt: &Value, client: &str) -> Result<Vec<Vec<u8>>> {
    let mut socket = server.connect(Some(client))?;
    let prompt = server.submit(prompt, Some(client))?;
    server.wait(&prompt)?;
    let frames = rest(&mut socket)?.into_iter().filter_map(|heard| match heard {
        Heard::Frame(bytes) => Some(bytes),
        Heard::Event(_) => None,
    });
    Ok(frames.collect())
}

#[test]
fn a_text_of_a_node_comes_as_frame_three() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let says = |text: &str, count: u64| json!({"7": {"class_type": "TestProgressText", "inputs": {"text": text, "count": count}}});
    let heard = frames(&server, &says("hé", 1), "c")?;
    ensure!(heard == ["\0\0\0\x03\0\0\0\x017hé 1".as_bytes()], "{heard:?}");

    // Far too many: some are left out, and never the last.
    let heard = frames(&server, &says("\u{1b}[2Jn", 5000), "d")?;
    ensure!(heard.len() < 5000, "all {} were sent", heard.len());
    let last = Frame::decode(heard.last().map_or(&[], Vec::as_slice))?;
    let Frame::Text { node_id, text, .. } = last else { anyhow::bail!("{last:?}") };
    ensure!(node_id == "7" && text.ends_with("n 5000") && !text.contains('\u{1b}'), "{text:?}");

    let heard = frames(&server, &says(&"x".repeat(50_000), 1), "e")?;
    ensure!(heard.len() == 1 && heard[0].len() < 4200, "{} bytes", heard[0].len());
    Ok(())
}

#[test]
fn frame_two_is_never_sent() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let heard = frames(&server, &busy_with_previews(70, 10), "c")?;
    ensure!(!heard.is_empty(), "no previews");
    for frame in heard {
        // An encoded picture, and not the pixels of one.
        ensure!(frame[..8] == [0, 0, 0, 1, 0, 0, 0, 1] && frame[8..10] == [0xff, 0xd8], "{:?}", &frame[..10]);
    }
    Ok(())
}

#[test]
fn previews_are_as_small_as_the_client_wants_them_or_none() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    for (index, (wish, widest)) in
        [(json!({}), 96), (json!({"preview_size": 24}), 24), (json!({"preview_method": "none"}), 0)]
            .into_iter()
            .enumerate()
    {
        let client = format!("client-{index}");
        let mut socket = server.connect(Some(&client))?;
        let prompt = busy_with_previews(80 + index as u64, 20);
        let accepted = server.post("/prompt", &json!({"prompt": prompt, "client_id": client, "extra_data": wish}))?;
        server.wait(accepted.json()?["prompt_id"].as_str().unwrap_or_default())?;
        let mut found = 0;
        for heard in rest(&mut socket)? {
            if let Heard::Frame(bytes) = heard {
                let Frame::PreviewImage { image, .. } = Frame::decode(&bytes)? else { anyhow::bail!("another frame") };
                found = found.max(vivarium_image_codec::probe(&image)?.width);
            }
        }
        ensure!(found == widest, "{wish}: {found} pixels wide");
    }
    Ok(())
}

#[test]
fn only_the_first_message_of_a_client_counts() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let mut socket = server.connect(None)?;
    socket.say(&json!({"type": "something", "data": {}}))?;
    socket.say(&json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}}))?;
    let heard = rest(&mut socket)?;
    ensure!(heard.is_empty(), "heard {heard:?}");
    Ok(())
}

#[test]
fn pages_of_other_sites_get_no_socket() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let own = format!("http://{}", server.address());
    for (headers, may) in [
        (vec![], true),
        (vec![("origin", &*own)], true),
        (vec![("origin", "https://evil.example")], false),
        (vec![("origin", "null")], false),
        (vec![("host", "evil.example"), ("origin", "http://evil.example")], false),
        (vec![("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")], false),
    ] {
        for path in ["/ws", "/api/ws"] {
            let opened = Socket::open(server.address(), path, &headers);
            ensure!(opened.is_ok() == may, "{path} with {headers:?}: {:?}", opened.err());
        }
    }
    Ok(())
}

#[test]
fn counts_go_to_every_socket() -> Result<()> {
    let server = Server::start(ServerConfig::default())?;
    let mut socket = server.connect(None)?;
    let remaining = |event: &Value, count: u64| {
        is(event, "status") && event["data"]["status"]["exec_info"]["queue_remaining"] == count
    };
    let long = server.submit(&busy(600_000, 1000), Some("elsewhere"))?;
    socket.events_until(|event| remaining(event, 1))?;
    let waiting = server.submit(&busy(1, 10), Some("elsewhere"))?;
    socket.events_until(|event| remaining(event, 2))?;
    server.post("/queue", &json!({ "delete": [waiting] }))?;
    socket.events_until(|event| remaining(event, 1))?;
    server.post("/interrupt", &json!({ "prompt_id": long }))?;
    socket.events_until(|event| remaining(event, 0))?;
    Ok(())
}
