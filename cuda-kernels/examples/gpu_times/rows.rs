//! The table: one number a row, as `gpu/peers.py` writes it too.

use std::fs::File;
use std::io::Write;
use std::path::Path;

/// One number.
struct Row {
    section: &'static str,
    of: String,
    who: String,
    what: String,
    value: f64,
    unit: &'static str,
}

/// All numbers so far.
pub struct Rows {
    rows: Vec<Row>,
    csv: Option<File>,
}

impl Rows {
    /// Written to a file as they come, if there is to be one.
    pub fn new(csv: Option<&Path>) -> Result<Self, String> {
        let mut csv = match csv {
            Some(path) => Some(File::create(path).map_err(|error| format!("{}: {error}", path.display()))?),
            None => None,
        };
        if let Some(file) = &mut csv {
            writeln!(file, "section,of,who,what,value,unit").map_err(|error| error.to_string())?;
        }
        Ok(Self { rows: Vec::new(), csv })
    }

    /// One more. No field holds a comma.
    pub fn add(&mut self, section: &'static str, of: &str, who: &str, what: &str, value: f64, unit: &'static str) -> Result<(), String> {
        if let Some(file) = &mut self.csv {
            writeln!(file, "{section},{of},{who},{what},{value},{unit}").map_err(|error| format!("the file of rows: {error}"))?;
        }
        self.rows.push(Row { section, of: of.into(), who: who.into(), what: what.into(), value, unit });
        Ok(())
    }

    /// All of them.
    pub fn print(&self) {
        let rows = self.rows.iter().map(|row| {
            let value = if row.unit == "bytes" { format!("{}", row.value) } else { format!("{:.4}", row.value) };
            [row.section.into(), row.of.clone(), row.who.clone(), row.what.clone(), value, row.unit.into()]
        });
        println!("{}", klshampoo_bench::cells(["section", "of", "who", "what", "value", "unit"], rows));
    }
}
