//! Limits of tenants and packs, which a running worker takes from `limits.toml`.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use vivarium_protocol::tenant::TenantId;
use vivarium_tests::{Laboratory, Settings, failure};
use vivarium_worker::{Engine, report::LimitReport};

fn limit(laboratory: &Laboratory, tenant: &TenantId, name: &str) -> Option<LimitReport> {
    laboratory.worker.limits(tenant).into_iter().find(|limit| limit.name == name)
}

fn outcome(laboratory: &Laboratory, tenant: &TenantId, prompt: &Value) -> Result<Option<(String, String)>> {
    let entry = laboratory.wait(tenant, &laboratory.submit(tenant, prompt, None)?)?;
    Ok(failure(&entry))
}

#[test]
fn a_pack_has_a_limit_of_its_own_for_one_tenant_and_at_once() -> Result<()> {
    let laboratory = Laboratory::start(Settings::default())?;
    let (alice, bob): (TenantId, TenantId) = ("alice".parse()?, "bob".parse()?);
    let write = |bytes: u64| {
        json!({
            "1": {"class_type": "TestWriteBytes", "inputs": {"bytes": bytes, "pieces": 1}},
            "2": {"class_type": "TestShow", "inputs": {"value": ["1", 0]}}
        })
    };
    assert_eq!(outcome(&laboratory, &alice, &write(100_000))?, None);

    let text = "[packs.testing]\ntransfer_bytes = \"64K\"\n[tenants.bob.packs.testing]\ntransfer_bytes = \"1M\"\n";
    fs::write(laboratory.base().join("limits.toml"), text)?;
    let begun = Instant::now();
    while limit(&laboratory, &alice, "transfer_bytes").is_none_or(|limit| limit.packs.get("testing") != Some(&65_536)) {
        if begun.elapsed() > Duration::from_secs(30) {
            bail!("the limits are not followed");
        }
        thread::sleep(Duration::from_millis(20));
    }
    let (kind, message) = outcome(&laboratory, &alice, &write(110_000))?.unwrap_or_default();
    assert_eq!(kind, "LimitExceededError");
    assert!(message.contains("65536 (transfer_bytes, limits.toml)"), "{message}");
    // So much that wasmtime does not even hand it over.
    let (kind, message) = outcome(&laboratory, &alice, &write(400_000))?.unwrap_or_default();
    assert_eq!(kind, "LimitExceededError");
    assert!(message.contains("65536 bytes (transfer_bytes, limits.toml)"), "{message}");
    assert_eq!(outcome(&laboratory, &bob, &write(110_000))?, None);
    let of_bob = limit(&laboratory, &bob, "transfer_bytes").map(|limit| limit.packs["testing"]);
    assert_eq!(of_bob, Some(1 << 20));
    Ok(())
}
