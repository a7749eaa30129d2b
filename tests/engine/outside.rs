//! What lies beyond files and models: hosts, scratch space, input folders. Each needs a permission, and works with it.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    thread,
};

use anyhow::Result;
use serde_json::{Value, json};
use vivarium_blobs::NamedFolders;
use vivarium_outbound::Offline;
use vivarium_packs::{Grant, Grants};
use vivarium_protocol::tenant::TenantId;
use vivarium_tests::{Laboratory, Settings, failure};

fn grants(permissions: &[&str]) -> Result<Grants> {
    let grants = permissions.iter().map(|permission| format!("testing:{permission}").parse());
    Ok(Grants::for_every_tenant(grants.collect::<Result<Vec<Grant>, _>>()?))
}

/// The texts that node 1 shows, or type and message of what went wrong.
fn outcome(
    laboratory: &Laboratory,
    tenant: &TenantId,
    prompt: &Value,
) -> Result<Result<Vec<String>, (String, String)>> {
    let entry = laboratory.wait(tenant, &laboratory.submit(tenant, prompt, None)?)?;
    if let Some(failure) = failure(&entry) {
        return Ok(Err(failure));
    }
    let texts = entry.outputs["1"]["text"].as_array().into_iter().flatten();
    Ok(Ok(texts.filter_map(Value::as_str).map(str::to_owned).collect()))
}

fn refused_with(outcome: &Result<Vec<String>, (String, String)>, wanted: &str, parts: &[&str]) -> bool {
    matches!(outcome, Err((kind, message)) if kind == wanted && parts.iter().all(|part| message.contains(part)))
}

#[test]
fn a_host_is_asked_only_with_a_permission_and_never_offline() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or_default();
            let text = String::from_utf8_lossy(&request[..read]);
            let said = format!("{} of {}", text.split(' ').next().unwrap_or_default(), text.len());
            let head = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{said}", said.len());
            stream.write_all(head.as_bytes()).unwrap_or_default();
        }
    });
    let tenant = TenantId::default_tenant();
    let prompt = json!({
        "1": {"class_type": "TestHttp", "inputs": {"method": "POST", "url": format!("http://127.0.0.1:{port}/x"), "body": "y"}}
    });
    let permission = format!("http/127.0.0.1:{port}");

    let without = Laboratory::start(Settings::default())?;
    let found = outcome(&without, &tenant, &prompt)?;
    let advice = format!("vivarium pack grant testing {permission}");
    assert!(refused_with(&found, "PermissionError", &[&advice]), "{found:?}");

    let with = Laboratory::start(Settings { grants: grants(&[&permission])?, ..Settings::default() })?;
    let found = outcome(&with, &tenant, &prompt)?.unwrap_or_default();
    assert!(found[0].starts_with("201 POST of"), "{found:?}");

    let http: Option<Arc<dyn vivarium_outbound::HttpClient>> = Some(Arc::new(Offline));
    let offline = Laboratory::start(Settings { grants: grants(&[&permission])?, http, ..Settings::default() })?;
    let found = outcome(&offline, &tenant, &prompt)?;
    assert!(refused_with(&found, "PermissionError", &["--offline"]), "{found:?}");
    Ok(())
}

#[test]
fn scratch_files_stay_between_prompts_and_are_of_one_tenant() -> Result<()> {
    let prompt = |round: u64| json!({"1": {"class_type": "TestScratch", "inputs": {"name": "count", "round": round}}});
    let tenant = TenantId::default_tenant();
    let without = Laboratory::start(Settings::default())?;
    let found = outcome(&without, &tenant, &prompt(0))?;
    assert!(refused_with(&found, "PermissionError", &["testing scratch"]), "{found:?}");

    let with = Laboratory::start(Settings { grants: grants(&["scratch"])?, ..Settings::default() })?;
    for round in 1..=3 {
        assert_eq!(outcome(&with, &tenant, &prompt(round))?, Ok(vec![format!("count {round}")]));
    }
    let bob: TenantId = "bob".parse()?;
    assert_eq!(outcome(&with, &bob, &prompt(1))?, Ok(vec!["count 1".to_owned()]));
    Ok(())
}

#[test]
fn an_input_folder_is_read_only_with_the_permission_for_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("2020"))?;
    std::fs::write(folder.path().join("2020/note.txt"), "seen")?;
    let folders = || {
        let named = ["photos", "papers"].map(|name| (name.to_owned(), folder.path().to_owned()));
        NamedFolders::new(named)
    };
    let tenant = TenantId::default_tenant();
    let prompt = |name: &str, path: &str, list: bool| json!({"1": {"class_type": "TestFolder", "inputs": {"folder": name, "path": path, "list": list}}});
    let settings = Settings { grants: grants(&["input/photos"])?, folders: folders(), ..Settings::default() };
    let laboratory = Laboratory::start(settings)?;
    assert_eq!(outcome(&laboratory, &tenant, &prompt("photos", "", true))?, Ok(vec!["2020 true 0".to_owned()]));
    assert_eq!(
        outcome(&laboratory, &tenant, &prompt("photos", "2020", true))?,
        Ok(vec!["note.txt false 4".to_owned()])
    );
    assert_eq!(outcome(&laboratory, &tenant, &prompt("photos", "2020/note.txt", false))?, Ok(vec!["seen".to_owned()]));
    let found = outcome(&laboratory, &tenant, &prompt("papers", "", true))?;
    assert!(refused_with(&found, "PermissionError", &["input/papers"]), "{found:?}");
    let found = outcome(&laboratory, &tenant, &prompt("photos", "none.txt", false))?;
    assert!(refused_with(&found, "FileNotFoundError", &["none.txt"]), "{found:?}");

    let png = vivarium_image_codec::encode_png(&[0, 128, 255, 9, 8, 7], 2, 1, 3, 6, &[])?;
    std::fs::write(folder.path().join("2020/tiny.png"), &png)?;
    let show = json!({
        "1": {"class_type": "TestFolderImage", "inputs": {"folder": "photos", "path": "2020/tiny.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "tiny"}}
    });
    let entry = laboratory.wait(&tenant, &laboratory.submit(&tenant, &show, None)?)?;
    assert_eq!(failure(&entry), None);
    let saved = laboratory.saved(&tenant, &entry.outputs["2"]["images"][0])?;
    let pixels =
        |png: &[u8]| vivarium_image_codec::decode(png, &Default::default()).map(|frames| format!("{frames:?}"));
    assert_eq!(pixels(&saved)?, pixels(&png)?);

    let unnamed = Laboratory::start(Settings { grants: grants(&["input/photos"])?, ..Settings::default() })?;
    let found = outcome(&unnamed, &tenant, &prompt("photos", "", true))?;
    assert!(refused_with(&found, "FileNotFoundError", &["--input-folder photos=DIR"]), "{found:?}");
    Ok(())
}
