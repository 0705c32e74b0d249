//! What was measured, as a table for people and as JSON.

use std::fs;

use serde::Serialize;

use crate::programs::scratch;

/// One line of the table. Figures are in its unit.
#[derive(Serialize)]
pub struct Row {
    what: String,
    unit: &'static str,
    ours: Option<f64>,
    incumbent: Option<f64>,
    floor: Option<f64>,
    /// Ours by what the mark is a multiple of, by the incumbent otherwise.
    ratio: Option<f64>,
    ratio_to: Option<String>,
    mark: Option<String>,
    /// The mark in the unit of the row.
    limit: Option<f64>,
    met: Option<bool>,
    note: Option<String>,
    /// What the figures were taken from.
    samples: Vec<(&'static str, Vec<f64>)>,
}

/// A line in a plot.
pub struct Curve {
    pub plot: Plot,
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plot {
    Latency,
    Start,
    Recovery,
    Readers,
}

/// All that was measured.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    pub curves: Vec<Curve>,
    pub n_failed: usize,
}

impl Row {
    pub fn new(what: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self {
            ours: Some(ours),
            ..Self::without(what, unit)
        }
    }

    fn without(what: impl Into<String>, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            unit,
            ours: None,
            incumbent: None,
            floor: None,
            ratio: None,
            ratio_to: None,
            mark: None,
            limit: None,
            met: None,
            note: None,
            samples: Vec::new(),
        }
    }

    pub fn incumbent(mut self, figure: f64) -> Self {
        self.incumbent = Some(figure);
        self
    }

    pub fn floor(mut self, figure: f64) -> Self {
        self.floor = Some(figure);
        self
    }

    /// The mark is a figure.
    pub fn at_most(self, limit: f64) -> Self {
        let mark = figure(limit, self.unit);
        self.mark(mark, limit)
    }

    /// The mark is a multiple of the floor.
    pub fn at_most_floor(self, times: f64) -> Self {
        let floor = self.floor.unwrap();
        self.at_most_times(times, floor, "floor")
    }

    /// The mark is a multiple of another figure.
    pub fn at_most_times(mut self, times: f64, of: f64, which: &str) -> Self {
        self.ratio = self.ours.map(|ours| ours / of);
        self.ratio_to = Some(which.into());
        self.mark(format!("{times} x {which}"), times * of)
    }

    /// There is no mark, and this is what it is compared with.
    pub fn compared_with(mut self, of: f64, which: &str) -> Self {
        self.ratio = self.ours.map(|ours| ours / of);
        self.ratio_to = Some(which.into());
        self
    }

    fn mark(mut self, mark: String, limit: f64) -> Self {
        self.mark = Some(mark);
        self.limit = Some(limit);
        self.met = self.ours.map(|ours| ours <= limit);
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    pub fn samples(mut self, of: &'static str, samples: &[f64]) -> Self {
        self.samples.push((of, samples.to_vec()));
        self
    }
}

impl Report {
    pub fn row(&mut self, mut row: Row) {
        let others = [(row.incumbent, "incumbent"), (row.floor, "floor")];
        let other = others
            .iter()
            .find_map(|(figure, name)| figure.map(|figure| (figure, name)));
        if let (None, Some((figure, name))) = (row.ratio, other) {
            row.ratio = row
                .ours
                .map(|ours| ours / figure)
                .filter(|ratio| ratio.is_finite());
            row.ratio_to = Some((*name).into());
        }
        self.rows.push(row);
    }

    pub fn curve(&mut self, plot: Plot, name: impl Into<String>, points: Vec<(f64, f64)>) {
        let name = name.into();
        self.curves.push(Curve { plot, name, points });
    }

    /// What could not be measured, and why.
    pub fn failed(&mut self, what: &str, why: &str) {
        self.n_failed += 1;
        let why = why.lines().next().unwrap_or_default();
        self.rows
            .push(Row::without(what, "").note(format!("FAILED: {why}")));
    }

    /// The table: aligned columns, notes below.
    pub fn table(&self) -> String {
        let mut lines: Vec<[String; 7]> =
            vec![["what", "ours", "incumbent", "floor", "ratio", "mark", "met"].map(String::from)];
        let mut notes = Vec::new();
        for row in &self.rows {
            let show =
                |value: Option<f64>| value.map_or("-".into(), |value| figure(value, row.unit));
            let mut what = row.what.clone();
            if let Some(note) = &row.note {
                let known = notes.iter().position(|known| *known == note);
                let at = known.unwrap_or_else(|| {
                    notes.push(note);
                    notes.len() - 1
                });
                what += &format!(" [{}]", at + 1);
            }
            lines.push([
                what,
                show(row.ours),
                show(row.incumbent),
                show(row.floor),
                row.ratio
                    .zip(row.ratio_to.as_ref())
                    .map_or("-".into(), |(ratio, to)| {
                        format!("{} x {to}", digits(ratio, 3))
                    }),
                row.mark.clone().unwrap_or("-".into()),
                match row.met {
                    Some(true) => "met",
                    Some(false) => "NOT MET",
                    None => "-",
                }
                .into(),
            ]);
        }
        let width = |at: usize| lines.iter().map(|line| line[at].len()).max().unwrap_or(0);
        let widths: [usize; 7] = std::array::from_fn(width);
        let mut table = String::new();
        for line in &lines {
            let cells = line.iter().zip(widths).enumerate();
            let cells = cells.map(|(at, (cell, width))| match at {
                1..=3 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            });
            table += cells.collect::<Vec<_>>().join("  ").trim_end();
            table += "\n";
        }
        for (at, note) in notes.iter().enumerate() {
            table += &format!("[{}] {note}\n", at + 1);
        }
        table
    }

    pub fn write_json(&self, machine: &str) {
        let all = serde_json::json!({"machine": machine, "rows": self.rows});
        let text = serde_json::to_vec(&all).unwrap();
        fs::write(scratch().join("results.json"), text).unwrap();
    }
}

/// Where a part of the samples is not above.
pub fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// A figure for people, in three digits and a unit that fits.
fn figure(value: f64, unit: &str) -> String {
    let (value, unit) = match unit {
        "s" if value < 0.1 => (value * 1000.0, "ms"),
        "MiB" if value < 0.1 => (value * 1024.0, "KiB"),
        _ => (value, unit),
    };
    format!("{} {unit}", digits(value, 3)).trim_end().to_owned()
}

/// A number in so many digits, without zeros at its end.
pub fn digits(value: f64, n: i32) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let before = value.abs().log10().floor() as i32 + 1;
    let text = format!(
        "{value:.*}",
        usize::try_from(n - before).unwrap_or(0).min(4)
    );
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').into(),
        false => text,
    }
}
