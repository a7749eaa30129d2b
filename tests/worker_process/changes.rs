//! Packs, limits and grants that change while a process runs.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vivarium_protocol::tenant::TenantId;
use vivarium_tests::{Laboratory, Settings, failure, pack_folders};

use super::{busy, children::children, laboratory, own_processes, succeeds, until};

#[test]
fn packs_that_come_and_go_do_so_in_a_running_process() -> Result<()> {
    let [stock, test] = <[_; 2]>::try_from(pack_folders()?).map_err(|all| anyhow::anyhow!("{all:?}"))?;
    let folder = tempfile::tempdir()?;
    let copy = |from: &std::path::Path, name: &str| fs::copy(from.join(name), folder.path().join(name)).map(drop);
    copy(&test, "testing.wasm")?;
    let packs = Some(vec![folder.path().to_owned()]);
    let laboratory =
        Laboratory::start(Settings { processes: Some(own_processes("packs")?), packs, ..Settings::default() })?;
    let tenant = TenantId::default_tenant();
    succeeds(&laboratory, &tenant, &busy(1))?;
    let before = children("packs")?;

    let image = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 1}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    });
    ensure!(laboratory.submit(&tenant, &image, None).is_err(), "the pack is not there yet");
    copy(&stock, "image.wasm")?;
    laboratory.catalog.reload()?;
    succeeds(&laboratory, &tenant, &image)?;
    fs::remove_file(folder.path().join("image.wasm"))?;
    laboratory.catalog.reload()?;
    ensure!(laboratory.submit(&tenant, &image, None).is_err(), "the pack is gone");
    succeeds(&laboratory, &tenant, &busy(2))?;
    ensure!(children("packs")? == before, "all of it in one process");
    Ok(())
}

#[test]
fn limits_reach_a_running_process() -> Result<()> {
    let laboratory = laboratory("limits")?;
    let tenant = TenantId::default_tenant();
    succeeds(&laboratory, &tenant, &busy(1))?;
    fs::write(laboratory.base().join("limits.toml"), "[tenants.default]\nexecute_time = \"80ms\"\n")?;
    let mut message = String::new();
    // Another prompt every time: a result that is kept would need no time.
    let mut milliseconds = 500;
    until("the limit holds", || {
        milliseconds += 1;
        let ended = laboratory.run(&busy(milliseconds));
        message = ended.ok().and_then(|entry| failure(&entry)).map(|(_, message)| message).unwrap_or_default();
        !message.is_empty()
    })?;
    ensure!(message.contains("80 ms (execute_time)"), "{message}");
    ensure!(children("limits")?.len() == 1);
    children("limits")?.first().context("the process").map(drop)
}
