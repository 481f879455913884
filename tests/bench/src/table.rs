//! Tables of numbers.

pub use comfy_table::Table;
use comfy_table::{CellAlignment, presets};

/// A table with these titles and rows, all to the right.
pub fn cells<const N: usize>(titles: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(titles).add_rows(rows);
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}
