//! Every route that the server says it has is asked in `cases/`, with good input and with bad.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use vivarium_server::ServerConfig;
use vivarium_tests::{cases, read_json, server::Server, tests_folder};

/// Routes that take something and are asked good or bad only, and why.
const ONE_SIDED: [(&str, &str); 8] = [
    ("GET /ws", "good: sockets.rs"),
    ("GET /history/{id}", "an unknown id is an empty answer, as in ComfyUI"),
    ("GET /settings/{id}", "an unknown id is null, as in ComfyUI"),
    ("GET /object_info/{class}", "an unknown class is an empty answer, as in ComfyUI"),
    ("POST /jobs/{id}/cancel", "an unknown id is not cancelled, as in ComfyUI"),
    ("POST /interrupt", "whatever is no id counts as none, as in ComfyUI"),
    ("GET /workflow_templates/{pack}/{file}", "good: the server crate's tests, until packs bring some"),
    ("GET /global_subgraphs/{id}", "good: the server crate's tests, until packs bring some"),
];

/// Whether a path is one of a route's.
fn fits(route: &str, path: &str) -> bool {
    let takes_the_rest = route.contains("/preview/");
    let (mut route, mut path) = (route.split('/'), path.split('/'));
    loop {
        match (route.next(), path.next()) {
            (Some("{file}"), Some(_)) if takes_the_rest => return true,
            (Some(part), Some(asked)) if part.starts_with('{') || part == asked => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[test]
fn every_route_is_asked_with_good_and_with_bad_input() -> Result<()> {
    let document = Server::start(ServerConfig::default())?.get("/openapi.json")?.json()?;
    let mut statuses: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    let mut takes_input = BTreeSet::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("methods")?.iter().filter(|(key, _)| *key != "servers") {
            let route = format!("{} {path}", method.to_uppercase());
            let parameters = operation["parameters"].as_array().is_some_and(|list| !list.is_empty());
            if parameters || operation["requestBody"].is_object() {
                takes_input.insert(route.clone());
            }
            if operation["tags"][0] != "login" {
                statuses.insert(route, BTreeSet::new());
            }
        }
    }
    for case in cases(&tests_folder().join("conformance/cases"))? {
        let conversation = read_json(&case.join("steps.json"))?;
        for step in conversation["steps"].as_array().context("steps")? {
            let ask = step["ask"].as_str().context("ask")?.split('?').next().unwrap_or_default();
            // Of routes that fit, the one with the fewest parameters.
            let fitting = statuses.iter_mut().filter(|(route, _)| fits(route, ask));
            if let Some((_, seen)) = fitting.min_by_key(|(route, _)| route.matches('{').count()) {
                seen.insert(step["status"].as_u64().context("a status")? < 400);
            }
        }
    }
    ensure!(statuses.len() > 40, "{} routes", statuses.len());
    let missing: Vec<_> = statuses
        .iter()
        .filter(|(route, seen)| {
            let one_sided = !takes_input.contains(*route) || ONE_SIDED.iter().any(|(known, _)| known == route);
            seen.len() < if one_sided { 1 } else { 2 }
        })
        .collect();
    ensure!(missing.is_empty(), "seen good (true) and bad (false): {missing:#?}");
    Ok(())
}
