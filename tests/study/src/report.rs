//! Tables: Markdown to read, CSV to compute with.

use crate::synthetic::{Condition, RATES, Row};
use crate::training::Measurement;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

/// Rows in order of appearance, one cell per condition.
fn table(rows: &[Row], conditions: &[Condition], title: impl Fn(&Condition) -> String, cell: impl Fn(&Row) -> f64) -> String {
    let mut names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    let mut text = String::from("| method |");
    conditions.iter().for_each(|condition| text += &format!(" {} |", title(condition)));
    text += &format!("\n|---|{}\n", "---:|".repeat(conditions.len()));
    for name in names {
        text += &format!("| {name} |");
        for condition in conditions {
            match rows.iter().find(|row| row.name == name && row.condition == *condition) {
                Some(row) => text += &format!(" {} |", number(cell(row))),
                None => text += " |",
            }
        }
        text += "\n";
    }
    text
}

fn number(x: f64) -> String {
    let digits = if x.abs() < 9.995 { 2 } else { usize::from(x.abs() < 99.95) };
    let text = format!("{x:.digits$}");
    // A minimum that was found to rounding is none below zero.
    if text == "-0.00" { "0.00".into() } else { text }
}

fn describe(condition: &Condition) -> String {
    let motion = if condition.rate == 0.0 { "fixed" } else { "turning" };
    format!("{}, {motion}, T = {}", condition.kind.name(), condition.period)
}

/// The divergences of all methods, exact and up to scale.
#[must_use]
pub fn methods_table(rows: &[Row]) -> String {
    let conditions = crate::synthetic::conditions();
    let exact = table(rows, &conditions, describe, |row| row.mean().exact);
    let scaled = table(rows, &conditions, describe, |row| row.mean().scaled);
    format!("KL(H, S), nats\n\n{exact}\nMinimum over c of KL(H, c S), nats\n\n{scaled}")
}

/// KL-Shampoo's divergences by source of eigenvalues.
#[must_use]
pub fn eigenvalues_table(rows: &[Row]) -> String {
    let mut text = String::new();
    for period in [10, 50] {
        let of_period = |condition: &&Row| condition.condition.period == period;
        let some = rows.iter().find(of_period).map(|row| row.condition);
        let conditions: Vec<Condition> = some.into_iter().flat_map(|condition| RATES.map(|rate| Condition { rate, ..condition })).collect();
        let title = |condition: &Condition| format!("{} rad/step", condition.rate);
        for (what, cell) in [("KL(H, S)", (|row| row.mean().exact) as fn(&Row) -> f64), ("up to scale", |row| row.mean().scaled)] {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "T = {period}, {what}, nats\n\n{}", table(rows, &conditions, title, cell));
        }
    }
    text
}

/// Means over the measured times of a training, per matrix.
#[must_use]
pub fn similarity_table(found: &[Measurement]) -> String {
    let mut text = String::from(
        "| matrix | shape | optimal | Shampoo squared | Shampoo | KL | left, Fig. 2 | right, Fig. 2 |\n|---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for tensor in tensors(found) {
        let of: Vec<_> = found.iter().filter(|m| m.tensor == tensor).collect();
        let mean = |f: fn(&Measurement) -> f64| of.iter().map(|m| f(m)).sum::<f64>() / of.len() as f64;
        let (rows, columns) = of.first().map_or((0, 0), |m| (m.rows, m.columns));
        let _ = writeln!(
            text,
            "| {tensor} | {rows} x {columns} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} |",
            mean(|m| m.optimal),
            mean(|m| m.shampoo_squared),
            mean(|m| m.shampoo),
            mean(|m| m.kullback_leibler),
            mean(|m| m.left),
            mean(|m| m.right),
        );
    }
    text
}

/// Names of the measured matrices, in order of appearance.
#[must_use]
pub fn tensors(found: &[Measurement]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    found.iter().for_each(|m| {
        if !names.contains(&m.tensor.as_str()) {
            names.push(&m.tensor);
        }
    });
    names
}

#[derive(Serialize)]
struct Line<'a> {
    method: &'a str,
    second_moment: &'a str,
    rate: f64,
    period: u32,
    seed: usize,
    divergence: f64,
    divergence_up_to_scale: f64,
}

fn write<S: Serialize>(path: &Path, lines: impl Iterator<Item = S>) -> Result<()> {
    let mut writer = csv::Writer::from_path(path).with_context(|| format!("cannot write '{}'; give another --out", path.display()))?;
    lines.into_iter().try_for_each(|line| writer.serialize(line))?;
    writer.flush()?;
    Ok(())
}

/// Every divergence of every seed.
///
/// # Errors
/// If the file cannot be written.
pub fn write_rows(path: &Path, rows: &[Row]) -> Result<()> {
    let lines = rows.iter().flat_map(|row| {
        row.seeds.iter().enumerate().map(|(seed, found)| Line {
            method: row.name,
            second_moment: row.condition.kind.name(),
            rate: row.condition.rate,
            period: row.condition.period,
            seed,
            divergence: found.exact,
            divergence_up_to_scale: found.scaled,
        })
    });
    write(path, lines)
}

/// Every measurement.
///
/// # Errors
/// If the file cannot be written.
pub fn write_measurements(path: &Path, found: &[Measurement]) -> Result<()> {
    write(path, found.iter())
}
