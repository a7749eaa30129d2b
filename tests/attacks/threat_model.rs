//! `docs/threat-model.md` is about this repository: every threat has a row, and what a row names is there.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use vivarium_tests::{repository, tests_folder};

const THREATS: usize = 77;

#[test]
fn every_threat_has_a_row_that_names_tests_which_exist() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/threat-model.md"))?;
    let table = page.split_once("<!-- threats -->").and_then(|(_, rest)| rest.split_once("<!-- /threats -->"));
    let (table, _) = table.context("the table has lost its marks")?;
    let mut functions = BTreeSet::new();
    for folder in ["runtime", "tests", "guest-sdk"] {
        collect_functions(&repository().join(folder), &mut functions)?;
    }
    let mut numbers: Vec<usize> = Vec::new();
    for row in table.lines() {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let Some(number) = cells.first().and_then(|cell| cell.parse().ok()) else { continue };
        numbers.push(number);
        let shown_by = *cells.get(3).with_context(|| format!("row {number} has no fourth cell"))?;
        // Whatever stands between two backticks.
        let names: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        ensure!(!names.is_empty() || shown_by == "**none**", "row {number} names nothing: {shown_by}");
        for name in names {
            ensure!(exists(name, &functions), "row {number} names `{name}`, which does not exist");
        }
    }
    ensure!(numbers == (1..=THREATS).collect::<Vec<_>>(), "{numbers:?}");
    Ok(())
}

fn exists(name: &str, functions: &BTreeSet<String>) -> bool {
    let data = tests_folder();
    match name.split_once('/') {
        Some(("cases", case)) => data.join("attacks/cases").join(case).is_dir(),
        Some(("packs", case)) => data.join("attacks/packs").join(format!("{case}.json")).is_file(),
        Some((area @ ("engine" | "conformance"), case)) => data.join(area).join("cases").join(case).is_dir(),
        Some(_) => false,
        None => functions.contains(name),
    }
}

fn collect_functions(folder: &Path, functions: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "node_modules" {
            collect_functions(&path, functions)?;
        } else if name.ends_with(".rs") {
            for line in fs::read_to_string(&path)?.lines() {
                if let Some((_, rest)) = line.split_once("fn ") {
                    functions.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
                }
            }
        }
    }
    Ok(())
}
