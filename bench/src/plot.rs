//! Distributions of latencies as SVG: how many requests took longer than what.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::{stats::microseconds_at, subject::Subject};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// The scale of time: powers of ten, in microseconds.
const FIRST_POWER: i32 = 1;
const LAST_POWER: i32 = 5;
/// The scale of requests: nines, 0 to 99.99 %.
const NINES: i32 = 4;
/// Points of a curve.
const STEPS: i32 = 160;

/// One picture with a curve for each subject.
pub(crate) fn latencies(title: &str, curves: &[(Subject, &Histogram<u64>)]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"14\">{title}</text>\n"
    );
    axes(&mut svg);
    for (at, (subject, histogram)) in curves.iter().enumerate() {
        curve(&mut svg, at, *subject, histogram);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Lines and labels behind the curves. Writing to a String does not fail.
fn axes(svg: &mut String) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for power in FIRST_POWER..=LAST_POWER {
        let microseconds = 10_f64.powi(power);
        let y = y_of(microseconds);
        let label = match power {
            ..=2 => format!("{microseconds} us"),
            _ => format!("{} ms", microseconds / 1000.0),
        };
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }
    for nines in 0..=NINES {
        let x = x_of(f64::from(nines));
        let percent = 100.0 * (1.0 - 10_f64.powi(-nines));
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            percentile(percent)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\">share of requests that took no longer</text>",
        HEIGHT - 10.0
    );
}

fn curve(svg: &mut String, at: usize, subject: Subject, histogram: &Histogram<u64>) {
    let (colour, mut points) = (colour(subject), String::new());
    for step in 0..=STEPS {
        let nines = f64::from(step * NINES) / f64::from(STEPS);
        let quantile = 1.0 - 10_f64.powf(-nines);
        let y = y_of(microseconds_at(histogram, quantile));
        let _ = write!(points, "{:.1},{y:.1} ", x_of(nines));
    }
    let y = TOP + 16.0 * at as f64;
    let x = WIDTH - RIGHT + 12.0;
    let _ = writeln!(
        svg,
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
         <text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{subject}</text>",
        points.trim_end()
    );
}

/// Where a share with so many nines is: 0.9 has one.
fn x_of(nines: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * nines / f64::from(NINES)
}

/// Where a latency is; what is beyond the scale is at its edge.
fn y_of(microseconds: f64) -> f64 {
    let (first, last) = (f64::from(FIRST_POWER), f64::from(LAST_POWER));
    let power = microseconds.max(1.0).log10().clamp(first, last);
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (power - first) / (last - first)
}

fn percentile(percent: f64) -> String {
    let text = format!("{percent:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} %")
}

const fn colour(subject: Subject) -> &'static str {
    match subject {
        Subject::Direct => "#888888",
        Subject::Mesh => "#c0392b",
        Subject::Haproxy => "#2471a3",
        Subject::Envoy => "#8e44ad",
        Subject::Nginx => "#1e8449",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats;

    fn steady(microseconds: u64) -> Histogram<u64> {
        let mut all = stats::latencies();
        all.record_n(microseconds * 1000, 1000).unwrap();
        all
    }

    #[test]
    fn a_slower_subject_is_higher_up() {
        assert!(y_of(1000.0) < y_of(100.0));
        assert_eq!(y_of(0.0), HEIGHT - BOTTOM);
        assert_eq!(y_of(1e9), TOP);
    }

    #[test]
    fn a_picture_has_a_curve_and_a_name_for_each_subject() {
        let (ours, theirs) = (steady(100), steady(300));
        let curves = [(Subject::Mesh, &ours), (Subject::Envoy, &theirs)];
        let svg = latencies("2000 requests/s", &curves);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains(">mesh</text>") && svg.contains(">envoy</text>"));
        assert!(svg.contains("99.9 %") && svg.contains("2000 requests/s"));
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_steady_latency_is_a_level_line() {
        let all = steady(100);
        let svg = latencies("", &[(Subject::Mesh, &all)]);
        let (_, rest) = svg.split_once("points=\"").unwrap();
        let (points, _) = rest.split_once('"').unwrap();
        let heights: Vec<&str> = points
            .split(' ')
            .map(|point| point.split_once(',').unwrap().1)
            .collect();
        assert!(
            heights.iter().all(|height| *height == heights[0]),
            "{heights:?}"
        );
    }
}
