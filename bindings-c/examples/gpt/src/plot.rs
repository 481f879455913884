//! The picture: validation loss against steps and against training time.

use crate::method::Method;
use crate::report::Run;
use crate::trainer::Evaluation;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

const WIDTH: u32 = 1400;
const HEIGHT: u32 = 480;
const LEGEND_WIDTH: i32 = 220;
const LEGEND_LINE: i32 = 20;

/// A method has the same color in every picture. Steps of the golden angle keep neighbours in the list apart.
fn color(method: Method) -> RGBColor {
    match method {
        Method::ADAMW => RGBColor(200, 90, 30),
        Method::KL_SHAMPOO => RGBColor(30, 90, 180),
        _ => {
            let hue = (0.381_966 * method.index() as f64).fract();
            let lightness = if method.index().is_multiple_of(2) { 0.35 } else { 0.55 };
            let (red, green, blue) = HSLColor(hue, 0.7, lightness).rgb();
            RGBColor(red, green, blue)
        }
    }
}

/// Writes both panels to an SVG file.
///
/// # Errors
/// If the file cannot be written or drawn.
pub fn draw(path: &Path, runs: &[Run]) -> Result<()> {
    let height = HEIGHT.max((runs.len() as u32 + 3) * LEGEND_LINE as u32);
    let whole = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    let drawn = || -> Result<(), Box<dyn std::error::Error>> {
        whole.fill(&WHITE)?;
        let (curves, names) = whole.split_horizontally(WIDTH as i32 - LEGEND_WIDTH);
        let panels = curves.split_evenly((1, 2));
        panel(&panels[0], runs, "steps", |evaluation| evaluation.step as f64)?;
        panel(&panels[1], runs, "seconds of training, without evaluations", |evaluation| evaluation.timing.seconds)?;
        legend(&names, runs)?;
        whole.present()?;
        Ok(())
    };
    drawn().map_err(|error| anyhow!("cannot draw '{}' ({error}); make room or give another --out", path.display()))
}

/// The methods with their last losses, lowest first.
fn legend(area: &DrawingArea<SVGBackend<'_>, Shift>, runs: &[Run]) -> Result<(), Box<dyn std::error::Error>> {
    let mut order: Vec<_> = runs.iter().collect();
    let rank = |run: &Run| run.final_loss().unwrap_or(f64::INFINITY);
    order.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
    for (line, run) in order.into_iter().enumerate() {
        let y = (line as i32 + 2) * LEGEND_LINE;
        let label = match run.final_loss() {
            Some(loss) => format!("{} {loss:.3}", run.method.name()),
            None => format!("{} ({})", run.method.name(), run.outcome.word()),
        };
        area.draw(&PathElement::new([(8, y), (32, y)], color(run.method).stroke_width(2)))?;
        area.draw(&Text::new(label, (40, y - 7), ("sans-serif", 14)))?;
    }
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    runs: &[Run],
    title: &str,
    x: impl Fn(&Evaluation) -> f64,
) -> Result<(), Box<dyn std::error::Error>> {
    // The point before the first step is log 256 for every method and would press all others together.
    let trained = runs.iter().flat_map(|run| run.evaluations.iter().skip(1));
    let losses = || trained.clone().map(|evaluation| evaluation.val_loss).filter(|loss| loss.is_finite());
    let lowest = losses().fold(f64::INFINITY, f64::min);
    let highest = losses().fold(f64::NEG_INFINITY, f64::max);
    let (bottom, top) = if lowest < highest { (lowest - 0.05, (highest + 0.05).min(lowest + 2.0)) } else { (0.0, 6.0) };
    let right = runs.iter().flat_map(|run| &run.evaluations).map(&x).fold(1e-3, f64::max);

    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .caption("Validation loss", ("sans-serif", 18))
        .build_cartesian_2d(0.0..right, bottom..top)?;
    chart
        .configure_mesh()
        .x_desc(title)
        .y_desc("nats per byte")
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 14))
        .light_line_style(WHITE)
        .x_label_formatter(&|value| format!("{value:.*}", usize::from(right < 10.0)))
        .y_label_formatter(&|value| format!("{value:.2}"))
        .draw()?;
    for run in runs {
        let style = color(run.method).stroke_width(2);
        let points = run.evaluations.iter().filter(|evaluation| evaluation.val_loss <= top).map(|point| (x(point), point.val_loss));
        chart.draw_series(LineSeries::new(points, style))?;
    }
    Ok(())
}
