//! The short form of `cargo run --release -p stress`, every limit of which must hold.

use stress::{Part, Plan, report, run};

#[test]
fn limits_hold() {
    println!("{}", report::HEAD);
    let rows = run(&Plan::SHORT, &Part::ALL, |row| println!("{}", report::line(row)));
    let missed: Vec<String> = rows.iter().filter(|row| !row.holds()).map(report::line).collect();
    assert!(rows.len() > 100 && missed.is_empty(), "{}", missed.join("\n"));
}
