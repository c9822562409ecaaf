//! Line plots as SVG, small enough to be written by hand.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Told apart also by those who see colours differently (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];

/// How values become places, and their unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    /// From 0.
    Linear(&'static str),
    /// Powers of ten.
    Log(&'static str),
    /// Quantiles below 1: as much room from 0.9 to 0.99 as from 0.99 to 0.999.
    Nines,
}

/// A plot and the file it is for.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub file: &'static str,
    pub title: String,
    pub x: Scale,
    pub y: Scale,
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear(_) => value,
            Self::Log(_) => value.max(1e-3).log10(),
            Self::Nines => -(1.0 - value.min(0.999_999)).log10(),
        }
    }

    /// The first and the last place.
    fn range(self, values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
        let places = values.map(|value| self.place(value));
        let most = places.clone().fold(f64::NEG_INFINITY, f64::max);
        let least = places.fold(f64::INFINITY, f64::min);
        if !(least.is_finite() && most.is_finite()) {
            return (0.0, 1.0);
        }
        match self {
            Self::Linear(_) => (0.0, if most > 0.0 { most * 1.05 } else { 1.0 }),
            Self::Log(_) => (least.floor(), most.ceil().max(least.floor() + 1.0)),
            Self::Nines => (0.0, most.max(1.0)),
        }
    }

    /// Places that get a line, with what stands there.
    fn ticks(self, (least, most): (f64, f64)) -> Vec<(f64, String)> {
        match self {
            Self::Linear(_) => {
                let step = nice_step(most);
                let count = (most / step) as u32;
                let at = |tick| f64::from(tick) * step;
                (0..=count).map(|tick| (at(tick), short(at(tick)))).collect()
            }
            Self::Log(_) => (least as i32..=most as i32)
                .map(|power| (f64::from(power), short(10_f64.powi(power))))
                .collect(),
            Self::Nines => [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999]
                .map(|quantile| (self.place(quantile), quantile.to_string()))
                .into_iter()
                .filter(|(place, _)| *place <= most + 1e-9)
                .collect(),
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Linear(unit) | Self::Log(unit) => unit,
            Self::Nines => "quantile",
        }
    }
}

/// About five steps to the end, each 1, 2 or 5 times a power of ten.
fn nice_step(most: f64) -> f64 {
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    steps.into_iter().find(|step| *step >= rough).unwrap_or(rough)
}

fn short(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{}k", value / 1_000.0)
    } else {
        // Without the noise of the last digit.
        ((value * 1e6).round() / 1e6).to_string()
    }
}

impl Plot {
    pub(crate) fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|(_, points)| points);
        let (x_range, y_range) = (
            self.x.range(points().map(|point| point.0)),
            self.y.range(points().map(|point| point.1)),
        );
        let part = |place: f64, (least, most): (f64, f64)| (place - least) / (most - least);
        let across = |place: f64| LEFT + part(place, x_range) * (WIDTH - LEFT - RIGHT);
        let down = |place: f64| HEIGHT - BOTTOM - part(place, y_range) * (HEIGHT - TOP - BOTTOM);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
            escape(&self.title)
        );
        // Writing to a string cannot fail.
        for (place, text) in self.x.ticks(x_range) {
            let (x, end, label) = (across(place), HEIGHT - BOTTOM, HEIGHT - BOTTOM + 18.0);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{end}\" stroke=\"#ddd\"/>"
            );
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{label}\" text-anchor=\"middle\">{text}</text>"
            );
        }
        for (place, text) in self.y.ticks(y_range) {
            let (y, end, label) = (down(place), WIDTH - RIGHT, LEFT - 8.0);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{end}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>"
            );
            let _ = writeln!(
                svg,
                "<text x=\"{label}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                y + 4.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n<text x=\"8\" y=\"{}\">{}</text>",
            WIDTH - RIGHT,
            HEIGHT - 10.0,
            self.x.unit(),
            TOP - 4.0,
            self.y.unit()
        );
        for (at, (name, points)) in self.series.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let path: Vec<_> = points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", across(self.x.place(*x)), down(self.y.place(*y))))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            let (x, y) = (LEFT + 10.0, TOP + 16.0 + 16.0 * at as f64);
            let _ = writeln!(
                svg,
                "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{}</text>",
                escape(name)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_inside_and_names_are_escaped() {
        let plot = Plot {
            file: "a.svg",
            title: "a < b".into(),
            x: Scale::Nines,
            y: Scale::Log("ms"),
            series: vec![("one & two".into(), vec![(0.5, 0.9), (0.99, 20.0), (0.999, 300.0)])],
        };
        let svg = plot.svg();
        assert!(svg.contains("a &lt; b") && svg.contains("one &amp; two"), "{svg}");
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(points.split(' ').count(), 3);
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!(
                (LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y),
                "{point}"
            );
        }
    }

    #[test]
    fn ticks_are_round_numbers() {
        let names =
            |scale: Scale, range| -> Vec<String> { scale.ticks(range).into_iter().map(|tick| tick.1).collect() };
        assert_eq!(names(Scale::Linear("s"), (0.0, 4.2)), ["0", "1", "2", "3", "4"]);
        assert_eq!(
            names(Scale::Linear("jobs/s"), (0.0, 42_000.0)),
            ["0", "10k", "20k", "30k", "40k"]
        );
        assert_eq!(names(Scale::Log("ms"), (0.0, 2.0)), ["1", "10", "100"]);
        assert_eq!(names(Scale::Nines, (0.0, 3.0)), ["0", "0.5", "0.9", "0.99", "0.999"]);
    }

    #[test]
    fn nothing_to_draw_is_an_empty_plot() {
        let plot = Plot {
            file: "a.svg",
            title: String::new(),
            x: Scale::Linear("s"),
            y: Scale::Linear("jobs/s"),
            series: vec![("none".into(), Vec::new())],
        };
        assert!(plot.svg().contains("points=\"\""));
    }
}
