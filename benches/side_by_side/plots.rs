//! The pictures: one SVG for each [`Plot`].

use std::ops::Range;

use plotters::prelude::*;

use crate::programs::scratch;
use crate::table::{Curve, Plot, Report, digits, quantile};

/// Along an axis: what it says, and whether each step is tenfold.
struct Axis {
    says: &'static str,
    tenfold: bool,
}

/// Draws what was measured; a plot of nothing is left out.
pub fn draw(report: &Report) {
    let axis = |says, tenfold| Axis { says, tenfold };
    for (plot, title, x, y) in [
        (
            Plot::Latency,
            "From set to readable: how many of the changes are there",
            axis("ms after the set", true),
            axis("% of the changes", false),
        ),
        (
            Plot::Start,
            "Start: all files readable",
            axis("nodes", true),
            axis("seconds", true),
        ),
        (
            Plot::Recovery,
            "After an outage: files that show the changes made meanwhile",
            axis("seconds after the server is back", true),
            axis("% of the files", false),
        ),
        (
            Plot::Readers,
            "Open, read and close of a warm file",
            axis("bytes", true),
            axis("microseconds", true),
        ),
    ] {
        let curves: Vec<&Curve> = report
            .curves
            .iter()
            .filter(|curve| curve.plot == plot)
            .collect();
        if !curves.is_empty() {
            let file = scratch().join(format!("{plot:?}.svg").to_lowercase());
            let area = SVGBackend::new(&file, (860, 520)).into_drawing_area();
            chart(&area, title, [x, y], &curves).unwrap();
            area.present().unwrap();
        }
    }
}

/// The quantiles of samples, as a curve of 0 to 100 %.
pub fn distribution(samples: &[f64]) -> Vec<(f64, f64)> {
    (0..200)
        .map(|step| f64::from(step) / 200.0)
        .map(|part| (quantile(samples, part), part * 100.0))
        .collect()
}

fn chart<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    title: &str,
    [x, y]: [Axis; 2],
    curves: &[&Curve],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    // Tenfold axes are drawn as logarithms.
    let at = |axis: &Axis, value: f64| {
        if axis.tenfold {
            value.max(1e-9).log10()
        } else {
            value
        }
    };
    let label = |axis: &Axis, value: f64| match axis.tenfold {
        true => digits(10f64.powf(value), 2),
        false => format!("{value}"),
    };
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let x_range = range(points().map(|point| at(&x, point.0)));
    let y_range = if y.tenfold {
        range(points().map(|point| at(&y, point.1)))
    } else {
        0.0..100.0
    };
    // Where no curve goes: costs rise, and distributions end above.
    let position = match y.tenfold {
        true => SeriesLabelPosition::UpperLeft,
        false => SeriesLabelPosition::LowerRight,
    };
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(x_range, y_range)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(x.says)
        .y_desc(y.says)
        .x_label_formatter(&|value| label(&x, *value))
        .y_label_formatter(&|value| label(&y, *value))
        .draw()?;
    for curve in curves {
        let colour = colour(&curve.name);
        // A second curve of the same kind is thinner.
        let earlier = curves.iter().take_while(|other| other.name != curve.name);
        let again = earlier
            .filter(|other| self::colour(&other.name) == colour)
            .count();
        let style = colour.stroke_width(if again == 0 { 3 } else { 1 });
        let line = curve
            .points
            .iter()
            .map(|point| (at(&x, point.0), at(&y, point.1)));
        chart
            .draw_series(LineSeries::new(line, style))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()
}

/// The same program has the same colour everywhere.
fn colour(name: &str) -> RGBColor {
    match name.split([',', ' ']).next() {
        Some("ours") => RGBColor(0, 90, 181),
        Some("incumbent") => RGBColor(220, 50, 32),
        _ => RGBColor(120, 120, 120),
    }
}

/// From the least to the most, with some room.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    let room = (most - least).max(0.1) * 0.05;
    least - room..most + room
}
