//! The picture: validation loss against steps and against training time.

use crate::report::Run;
use crate::trainer::{Evaluation, Method};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (1200, 480);

fn color(method: Method) -> RGBColor {
    match method {
        Method::AdamW => RGBColor(200, 90, 30),
        Method::KlShampoo => RGBColor(30, 90, 180),
    }
}

/// Writes both panels to an SVG file.
///
/// # Errors
/// If the file cannot be written or drawn.
pub fn draw(path: &Path, runs: &[Run]) -> Result<()> {
    let whole = SVGBackend::new(path, SIZE).into_drawing_area();
    let drawn = || -> Result<(), Box<dyn std::error::Error>> {
        whole.fill(&WHITE)?;
        let panels = whole.split_evenly((1, 2));
        panel(&panels[0], runs, "steps", |evaluation| evaluation.step as f64)?;
        panel(&panels[1], runs, "seconds of training, without evaluations", |evaluation| evaluation.timing.seconds)?;
        whole.present()?;
        Ok(())
    };
    drawn().map_err(|error| anyhow!("cannot draw '{}' ({error}); make room or give another --out", path.display()))
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
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.2}"))
        .draw()?;
    for run in runs {
        let style = color(run.method).stroke_width(2);
        let points = run.evaluations.iter().filter(|evaluation| evaluation.val_loss <= top).map(|point| (x(point), point.val_loss));
        let label = match run.evaluations.last() {
            Some(last) => format!("{} {:.3}", run.method.name(), last.val_loss),
            None => run.method.name().to_owned(),
        };
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .legend_area_size(32)
        .label_font(("sans-serif", 14))
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
