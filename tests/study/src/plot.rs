//! The pictures.

use crate::report::tensors;
use crate::synthetic::{Condition, RATES, Row, conditions};
use crate::training::Measurement;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

type Drawn = Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const COLORS: [RGBColor; 6] = [
    RGBColor(30, 90, 180),
    RGBColor(200, 90, 30),
    RGBColor(40, 140, 70),
    RGBColor(140, 60, 150),
    RGBColor(120, 120, 120),
    RGBColor(190, 150, 20),
];

/// Draws into an SVG file.
fn picture(path: &Path, size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<()> {
    let whole = SVGBackend::new(path, size).into_drawing_area();
    let drawn = || -> Drawn {
        whole.fill(&WHITE)?;
        draw(&whole)?;
        whole.present()?;
        Ok(())
    };
    drawn().map_err(|error| anyhow!("cannot draw '{}' ({error}); give another --out", path.display()))
}

/// A line with its name in a legend.
struct Curve {
    name: String,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

struct Axes<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    top: f64,
}

fn panel(area: &Area<'_>, axes: &Axes<'_>, curves: &[Curve]) -> Drawn {
    let right = curves.iter().flat_map(|curve| &curve.points).map(|point| point.0).fold(1e-9, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .caption(axes.title, ("sans-serif", 15))
        .build_cartesian_2d(0.0..right, 0.0..axes.top)?;
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .y_desc(axes.y)
        .label_style(("sans-serif", 12))
        .axis_desc_style(("sans-serif", 13))
        .light_line_style(WHITE)
        .x_labels(6)
        .draw()?;
    for curve in curves {
        let style = curve.color.stroke_width(2);
        chart.draw_series(LineSeries::new(curve.points.iter().copied().filter(|point| point.1 <= axes.top), style))?;
    }
    Ok(())
}

fn legend(area: &Area<'_>, curves: &[Curve]) -> Drawn {
    for (line, curve) in curves.iter().enumerate() {
        let y = 30 + 22 * line as i32;
        area.draw(&PathElement::new([(8, y), (32, y)], curve.color.stroke_width(3)))?;
        area.draw(&Text::new(curve.name.clone(), (40, y - 7), ("sans-serif", 13)))?;
    }
    Ok(())
}

/// Divergence up to scale of every method, a panel per kind of second moment, a mark per condition.
///
/// # Errors
/// If the file cannot be drawn.
pub fn divergences(path: &Path, rows: &[Row]) -> Result<()> {
    let conditions = conditions();
    let half = conditions.len() / 2;
    let mut names: Vec<&str> = Vec::new();
    rows.iter().filter(|row| row.condition == conditions[0]).for_each(|row| names.push(row.name));
    let count = names.len();
    picture(path, (1400, 60 + 26 * count as u32), |whole| {
        let (labels, panels) = whole.split_horizontally(230);
        let panels = panels.split_evenly((1, 2));
        for (panel, part) in panels.iter().zip(conditions.chunks(half)) {
            let mean = |row: &Row| row.mean().scaled.max(0.02);
            let of = |condition: &Condition| -> Vec<(f64, f64)> {
                let rows = rows.iter().filter(|row| row.condition == *condition);
                rows.enumerate().map(|(at, row)| (mean(row), (count - at) as f64)).collect()
            };
            let title = format!("{}: min over c of KL(H, c S), nats", part[0].kind.name());
            let mut chart = ChartBuilder::on(panel)
                .margin(6)
                .margin_right(16)
                .x_label_area_size(26)
                .caption(title, ("sans-serif", 15))
                .build_cartesian_2d((0.02..200.0).log_scale(), 0.0..count as f64 + 1.0)?;
            chart.configure_mesh().disable_y_mesh().light_line_style(WHITE).label_style(("sans-serif", 12)).draw()?;
            for (condition, color) in part.iter().zip(COLORS) {
                chart.draw_series(of(condition).into_iter().map(|point| Circle::new(point, 4, color.filled())))?;
            }
        }
        // The plotting area lies between a caption and the axis labels.
        let (top, bottom) = (32.0, 60.0 + 26.0 * count as f64 - 32.0);
        for (at, name) in names.iter().enumerate() {
            let y = top + (bottom - top) * (at + 1) as f64 / (count + 1) as f64;
            labels.draw(&Text::new((*name).to_owned(), (10, y as i32 - 7), ("sans-serif", 13)))?;
        }
        for (at, condition) in conditions[..half].iter().enumerate() {
            let motion = if condition.rate == 0.0 { "fixed" } else { "turning" };
            let y = 44 + 17 * at as i32;
            whole.draw(&Circle::new((1272, y), 4, COLORS[at].filled()))?;
            whole.draw(&Text::new(format!("{motion}, T = {}", condition.period), (1282, y - 6), ("sans-serif", 12)))?;
        }
        Ok(())
    })
}

/// KL-Shampoo's divergence against the rate at which the second moment turns, a line per source of eigenvalues, a panel per period.
///
/// # Errors
/// If the file cannot be drawn.
pub fn eigenvalues(path: &Path, rows: &[Row]) -> Result<()> {
    let curves = |period: u32| -> Vec<Curve> {
        let of_period = || rows.iter().filter(move |row| row.condition.period == period);
        let first = || of_period().filter(|row| row.condition.rate == RATES[0]);
        let curve = |(row, color): (&Row, RGBColor)| Curve {
            name: row.name.to_owned(),
            color,
            points: of_period().filter(|other| other.name == row.name).map(|row| (row.condition.rate, row.mean().exact)).collect(),
        };
        first().zip(COLORS).map(curve).collect()
    };
    let top = 1.05 * rows.iter().map(|row| row.mean().exact).fold(0.0, f64::max);
    picture(path, (1300, 400), |whole| {
        let (panels, names) = whole.split_horizontally(1040);
        for (area, period) in panels.split_evenly((1, 2)).iter().zip([10, 50]) {
            let title = format!("KL-Shampoo's eigenvalues, T = {period}");
            panel(area, &Axes { title: &title, x: "radians per step", y: "KL(H, S), nats", top }, &curves(period))?;
        }
        legend(&names, &curves(10))
    })
}

/// Cosine similarities during the training: Fig. 1 of paper B above, Fig. 2 below, a column per matrix.
///
/// # Errors
/// If the file cannot be drawn.
pub fn similarities(path: &Path, found: &[Measurement]) -> Result<()> {
    let curve = |tensor: &str, name: &str, at: usize, f: fn(&Measurement) -> f64| Curve {
        name: name.to_owned(),
        color: COLORS[at],
        points: found.iter().filter(|m| m.tensor == tensor).map(|m| (m.step as f64, f(m))).collect(),
    };
    let first = |tensor: &str| {
        vec![
            curve(tensor, "optimal", 4, |m| m.optimal),
            curve(tensor, "Shampoo squared", 0, |m| m.shampoo_squared),
            curve(tensor, "Shampoo", 1, |m| m.shampoo),
            curve(tensor, "KL", 2, |m| m.kullback_leibler),
        ]
    };
    let second = |tensor: &str| {
        vec![
            curve(tensor, "optimal", 4, |m| m.optimal),
            curve(tensor, "L with the optimal L", 3, |m| m.left),
            curve(tensor, "R with the optimal R", 5, |m| m.right),
        ]
    };
    let names = tensors(found);
    picture(path, (1500, 620), |whole| {
        let (panels, legends) = whole.split_horizontally(1320);
        let (above, below) = panels.split_vertically(310);
        let (legend_above, legend_below) = legends.split_vertically(310);
        let columns = names.len().max(1);
        for (row, curves) in [(above, &first as &dyn Fn(&str) -> Vec<Curve>), (below, &second)] {
            for (area, tensor) in row.split_evenly((1, columns)).iter().zip(&names) {
                panel(area, &Axes { title: tensor, x: "step", y: "cosine similarity", top: 1.0 }, &curves(tensor))?;
            }
        }
        legend(&legend_above, &first(""))?;
        legend(&legend_below, &second(""))
    })
}
