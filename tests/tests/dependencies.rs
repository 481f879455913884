//! The crates that the libraries are made of: which they are, under what licences, from where. ffi/DEPENDENCIES.md is the list; `KLS_BLESS=1` writes
//! it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::Command;

use klshampoo_tests::workspace::{committed, files, root, said};

type Crates = BTreeSet<(String, String)>;

/// A build of a library, and what it links on every system or on one.
const BUILDS: [(&str, &[&str]); 3] = [
    ("core", &["--package=klshampoo", "--target=all"]),
    ("C, no host", &["--package=klshampoo-ffi", "--no-default-features", "--features=all", "--target=all"]),
    ("C", &["--package=klshampoo-ffi", "--target=x86_64-unknown-linux-gnu"]),
];

/// Crates that cargo finds along some kinds of edges, with their versions; ours are not among them.
fn tree(build: &[&str], edges: &str) -> Crates {
    let lines = said(Command::new(env!("CARGO")).args(["tree", "--locked", "--prefix=none", "--format={p}", "--edges", edges]).args(build));
    let crates = lines.lines().map(|line| {
        let mut words = line.split(' ');
        (words.next().unwrap().to_owned(), words.next().unwrap().trim_start_matches('v').to_owned())
    });
    crates.filter(|(name, _)| !name.starts_with("klshampoo")).collect()
}

/// Every package of a workspace, as cargo describes it.
fn packages(lock: &std::path::Path) -> Vec<serde_json::Value> {
    let manifest = lock.with_file_name("Cargo.toml");
    let text = said(
        Command::new(env!("CARGO")).args(["metadata", "--locked", "--format-version=1", "--all-features", "--manifest-path"]).arg(manifest),
    );
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn text<'a>(package: &'a serde_json::Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or("")
}

fn all_packages() -> Vec<serde_json::Value> {
    let packages: Vec<_> = files("*Cargo.lock").iter().flat_map(|lock| packages(lock)).collect();
    assert!(packages.len() > 100);
    packages
}

fn deny() -> toml::Table {
    std::fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap()
}

#[test]
fn the_list_of_linked_crates_is_current() {
    let licences: BTreeMap<(String, String), String> = packages(&root().join("Cargo.lock"))
        .iter()
        .map(|package| ((text(package, "name").into(), text(package, "version").into()), text(package, "license").replace('/', " OR ")))
        .collect();
    let linked = BUILDS.map(|(_, build)| tree(build, "normal,no-proc-macro"));
    let elsewhere = &tree(&["--package=klshampoo-ffi", "--target=all"], "normal,no-proc-macro") - &linked[2];
    let building = &tree(&["--package=klshampoo-ffi", "--target=all"], "normal,build") - &(&linked[2] | &elsewhere);
    assert!(linked[0].is_subset(&linked[1]) && linked[1].is_subset(&linked[2]));
    // Two versions of one crate in a program are twice its code.
    for ((build, _), crates) in BUILDS.iter().zip(&linked) {
        let mut names = BTreeSet::new();
        let twice: Vec<_> = crates.iter().map(|(name, _)| name.as_str()).filter(|name| !names.insert(*name)).collect();
        assert_eq!(twice, if *build == "C" { &["equator"][..] } else { &[] }, "{build}");
    }

    let mut list = String::from(
        "# What the libraries are made of\n\n\
         Crates besides klshampoo's own (`klshampoo`, `klshampoo-sqrt`, `klshampoo-ffi`) and Rust's standard library or core. The test `dependencies`\n\
         compares this list with what cargo resolves. Columns: the crate `klshampoo`; the C library without a host (`--no-default-features\n\
         --features all`); the C library on x86-64 Linux.\n\n",
    );
    let columns: Vec<_> = BUILDS.iter().map(|(name, _)| *name).collect();
    writeln!(list, "| crate | version | licence | {} |\n|---|---|---|---|---|---|", columns.join(" | ")).unwrap();
    let row = |list: &mut String, of: &(String, String), more: &str| {
        writeln!(list, "| {} | {} | {} |{more}", of.0, of.1, licences.get(of).map_or("", String::as_str)).unwrap();
    };
    for of in &linked[2] {
        let marks: String = linked.iter().map(|crates| if crates.contains(of) { " x |" } else { " |" }).collect();
        row(&mut list, of, &marks);
    }
    for (title, crates) in
        [("Linked on other systems or processors only", elsewhere), ("Run while the C library is built, and not linked", building)]
    {
        writeln!(list, "\n## {title}\n\n| crate | version | licence |\n|---|---|---|").unwrap();
        crates.iter().for_each(|of| row(&mut list, of, ""));
    }
    committed("ffi/DEPENDENCIES.md", &list);
}

/// Every crate of every lock file, those for tests and benchmarks too.
#[test]
fn licences_are_allowed() {
    let deny = deny();
    let licensees = |names: &toml::Value| -> Vec<spdx::Licensee> {
        names.as_array().unwrap().iter().map(|name| spdx::Licensee::parse(name.as_str().unwrap()).unwrap()).collect()
    };
    let allowed = licensees(&deny["licenses"]["allow"]);
    let exceptions = deny["licenses"]["exceptions"].as_array().unwrap();
    for package in all_packages() {
        // A slash is an old way to write "or".
        let licence = text(&package, "license").replace('/', " OR ");
        let expression = spdx::Expression::parse(&licence).unwrap_or_else(|error| panic!("{}: {licence}: {error}", package["id"]));
        let exception = exceptions.iter().find(|exception| exception["crate"].as_str() == package["name"].as_str());
        let allowed = exception.map_or(allowed.clone(), |exception| licensees(&exception["allow"]));
        let fits = expression.evaluate(|requirement| allowed.iter().any(|allowed| allowed.satisfies(requirement)));
        assert!(fits, "{}: {licence} is not in deny.toml", package["id"]);
    }
}

#[test]
fn crates_come_from_the_registry_alone() {
    for package in all_packages() {
        let (source, manifest) = (text(&package, "source"), text(&package, "manifest_path"));
        let own = source.is_empty() && manifest.starts_with(root().to_str().unwrap());
        assert!(own || (source.starts_with("registry+") && source.ends_with("crates.io-index")), "{}", package["id"]);
    }
}

/// Versions that are there beside newer ones are known, and nothing is known that is not there.
#[test]
fn crates_in_several_versions_are_known() {
    let mut versions = BTreeMap::<String, Vec<String>>::new();
    for package in packages(&root().join("Cargo.lock")) {
        versions.entry(text(&package, "name").into()).or_default().push(text(&package, "version").into());
    }
    let number = |version: &str| version.split(['.', '+', '-']).take(3).map(|part| part.parse::<u64>().unwrap()).collect::<Vec<_>>();
    let older = versions.into_iter().flat_map(|(name, mut versions)| {
        versions.sort_by_key(|version| number(version));
        versions.pop();
        versions.into_iter().map(move |version| format!("{name}@{version}"))
    });
    let deny = deny();
    let known = deny["bans"]["skip"].as_array().unwrap().iter().map(|entry| entry["crate"].as_str().unwrap().to_owned());
    assert_eq!(older.collect::<BTreeSet<_>>(), known.collect::<BTreeSet<_>>(), "Cargo.lock, and what deny.toml knows of it");
}
