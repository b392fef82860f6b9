//! The chart: the ratios as a picture.
//!
//! It has its own background, so it can be read on a dark page. It has neither a style sheet nor empty lines, so
//! it can be embedded in HTML and Markdown as it is.

use std::fmt;

use bench::Column;

use crate::candidate::{Candidate, Kind, Store};
use crate::figures::thousands;
use crate::job::Job;
use crate::report::{Report, heading};

/// An SVG with a panel for each kind of traffic, and a bar for each candidate.
pub(crate) struct Chart<'a>(pub(crate) &'a Report<'a>);

/// Sizes in pixels.
const WIDTH: f64 = 880.0;
const LEFT: f64 = 26.0;
const TOP: f64 = 96.0;
const ROW: f64 = 21.0;
const BAR: f64 = 13.0;
const HEADING: f64 = 36.0;
/// The height of what a panel has below its bars.
const FOOT: f64 = 40.0;
/// Where the bars begin, and where one as fast as bare axum ends.
const NONE: f64 = 385.0;
const ALL: f64 = 735.0;
/// The length at which bars are cut off, as a ratio of bare axum's.
const LONGEST: f64 = 1.06;

/// Colours that most colour-blind readers can tell apart (Okabe and Ito).
const OURS: &str = "#0072b2";
const PEERS: &str = "#e69f00";
const FASTAPI: &str = "#d55e00";
const PLAIN: &str = "#999";
const INK: &str = "#222";
const GREY: &str = "#666";
const LINE: &str = "#ddd";

impl fmt::Display for Chart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panels: Vec<_> = Column::ALL.map(|column| (column, self.rows(column))).into_iter().collect();
        let height = panels.iter().fold(TOP, |top, (_, rows)| top + panel_height(rows.len()));
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" style="max-width:100%" role="img" aria-label="What remains of bare axum's throughput behind each limiter" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="13" fill="{INK}">"#
        )?;
        writeln!(f, r##"<rect width="{WIDTH}" height="{height}" rx="6" fill="#fff"/>"##)?;
        self.legend(f)?;
        let mut top = TOP;
        for (column, rows) in panels {
            if !rows.is_empty() {
                self.panel(f, top, column, &rows)?;
            }
            top += panel_height(rows.len());
        }
        writeln!(f, "</svg>")
    }
}

impl Chart<'_> {
    /// Returns all candidates but bare axum, with which they are compared.
    fn rows(&self, column: Column) -> Vec<&'static Candidate> {
        let mut rows = self.0.ranked(column);
        rows.retain(|candidate| !candidate.is_bare());
        rows
    }

    fn legend(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        writeln!(
            f,
            r#"<text x="{LEFT}" y="31" font-size="15" font-weight="600">What remains of bare axum's requests per second</text>"#
        )?;
        writeln!(
            f,
            r#"<text x="{LEFT}" y="51" font-size="12" fill="{GREY}">{}; {}. {}.</text>"#,
            escape(&report.machine.processor),
            report.machine.date,
            match report.arguments.rounds {
                1 => "One round".to_owned(),
                rounds => format!("Means of {rounds} rounds, and their standard errors"),
            }
        )?;
        let mut x = LEFT;
        let entries = [
            (OURS, "axum-rate-limit", 140.0),
            (PEERS, "other limiters", 124.0),
            (FASTAPI, "FastAPI", 84.0),
            (PLAIN, "no limiter, or bare commands of Redis", 0.0),
        ];
        for (colour, label, width) in entries {
            writeln!(f, r#"<rect x="{x}" y="66" width="13" height="13" fill="{colour}"/>"#)?;
            writeln!(f, r#"<text x="{}" y="77">{label}</text>"#, x + 19.0)?;
            x += width;
        }
        Ok(())
    }

    fn panel(
        &self,
        f: &mut fmt::Formatter<'_>,
        top: f64,
        column: Column,
        rows: &[&Candidate],
    ) -> fmt::Result {
        let first = top + HEADING;
        let floor = rows.iter().fold(first, |y, _| y + ROW);
        writeln!(f, r#"<text x="{LEFT}" y="{}" font-weight="600">{}</text>"#, top + 20.0, heading(column))?;
        for tenth in [0, 2, 4, 6, 8, 10] {
            let x = x(f64::from(tenth) / 10.0);
            let colour = if matches!(tenth, 0 | 10) { GREY } else { LINE };
            writeln!(f, r#"<path d="M{x:.1} {:.1}V{floor:.1}" stroke="{colour}"/>"#, first - 4.0)?;
            writeln!(
                f,
                r#"<text x="{x:.1}" y="{:.1}" font-size="12" text-anchor="middle" fill="{GREY}">{}</text>"#,
                floor + 16.0,
                if tenth == 10 { "bare axum".to_owned() } else { format!("{}%", tenth * 10) }
            )?;
        }
        let mut y = first;
        for candidate in rows {
            self.row(f, y, column, candidate)?;
            y += ROW;
        }
        Ok(())
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, y: f64, column: Column, candidate: &Candidate) -> fmt::Result {
        let job = Job::new(candidate.id, column);
        let (Some(ratio), Some(rate)) = (self.0.results.ratio(job), self.0.results.rate(job)) else {
            return Ok(());
        };
        let colour = match candidate.kind {
            Kind::Ours => OURS,
            Kind::Peer => PEERS,
            Kind::FastApi => FASTAPI,
            Kind::Bare | Kind::Commands => PLAIN,
        };
        let weight = if candidate.kind == Kind::Ours { r#" font-weight="600""# } else { "" };
        let store = if candidate.store == Store::None { "" } else { candidate.store.name() };
        let (text, middle) = (y + 12.0, y + ROW / 2.0 - 2.0);
        writeln!(
            f,
            r#"<text x="{:.1}" y="{text:.1}" text-anchor="end"><tspan{weight}>{}</tspan><tspan fill="{GREY}" dx="7">{store}</tspan></text>"#,
            NONE - 10.0,
            escape(candidate.name)
        )?;
        writeln!(
            f,
            r#"<rect x="{NONE}" y="{:.1}" width="{:.1}" height="{BAR}" fill="{colour}"/>"#,
            middle - BAR / 2.0,
            x(ratio.mean) - NONE
        )?;
        let error = ratio.error.unwrap_or_default();
        let (least, most) = (x(ratio.mean - error), x(ratio.mean + error));
        writeln!(
            f,
            r#"<path d="M{least:.1} {middle:.1}H{most:.1}M{least:.1} {:.1}v6M{most:.1} {:.1}v6" stroke="{INK}"/>"#,
            middle - 3.0,
            middle - 3.0
        )?;
        // A white outline keeps the lines of the grid from crossing the figures.
        writeln!(
            f,
            r##"<text x="{:.1}" y="{text:.1}" stroke="#fff" stroke-width="4" paint-order="stroke">{:.0}%<tspan fill="{GREY}" dx="7" font-size="12">{}/s</tspan></text>"##,
            most + 7.0,
            ratio.mean * 100.0,
            thousands(rate)
        )
    }
}

fn panel_height(rows: usize) -> f64 {
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    if rows == 0 { 0.0 } else { HEADING + ROW * f64::from(rows) + FOOT }
}

/// Returns the position at which a bar of this length ends.
fn x(ratio: f64) -> f64 {
    NONE + ratio.clamp(0.0, LONGEST) * (ALL - NONE)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
