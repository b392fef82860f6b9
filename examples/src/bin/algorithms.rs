//! Shows what each algorithm admits of the same traffic, as a table or a picture, without HTTP.
//!
//! ```text
//! cargo run --bin algorithms                             # a table
//! cargo run --bin algorithms -- --svg algorithms.svg     # a table, and a picture
//! ```
//!
//! It takes no time, since a [`ManualClock`] (feature `test-util`) drives the limiter. With such a clock, tests
//! of your own limits need not wait either.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::time::Duration;

use axum_rate_limit::{Algorithm, ManualClock, Policy, RateLimiter};

/// The window of all four policies.
const WINDOW: Duration = Duration::from_secs(10);
/// How many requests may pass per window.
const LIMIT: u32 = 10;
/// A time span that covers both bursts.
const SHORT: Duration = Duration::from_secs(2);

/// The same limit, counted in four ways. (A token bucket lets its whole quota pass at once, unless
/// `.burst(…)` says otherwise.)
const POLICIES: [Policy; 4] = [
    Policy::new("fixed_window").quota(LIMIT, WINDOW).algorithm(Algorithm::FixedWindow), // the default
    Policy::new("sliding_window").quota(LIMIT, WINDOW).algorithm(Algorithm::SlidingWindow),
    Policy::new("sliding_log").quota(LIMIT, WINDOW).algorithm(Algorithm::SlidingLog),
    Policy::new("token_bucket").quota(LIMIT, WINDOW).algorithm(Algorithm::TokenBucket { burst: None }),
];

/// Evenly spaced requests: `count` of them, one per `every`.
struct Phase {
    start: Duration,
    count: u32,
    every: Duration,
}

/// The traffic: a single request, two bursts, and a steady stream.
///
/// A fixed window begins with the first request of its key. The request at 0 s makes the first window end
/// at 10 s, between the bursts.
const TRAFFIC: [Phase; 4] = [
    Phase { start: Duration::ZERO, count: 1, every: Duration::ZERO },
    Phase { start: Duration::from_secs(9), count: 10, every: Duration::ZERO },
    Phase { start: Duration::from_millis(10_500), count: 10, every: Duration::ZERO },
    Phase { start: Duration::from_secs(12), count: 40, every: Duration::from_millis(500) },
];

/// One request and its outcome.
#[derive(Clone, Copy)]
struct Request {
    time: Duration,
    admitted: bool,
}

/// The outcome of the traffic under one policy.
struct Run {
    policy: &'static str,
    /// The requests of each phase.
    phases: Vec<Vec<Request>>,
    /// The beginning and end of each window; empty unless the algorithm is a fixed window.
    windows: Vec<(Duration, Duration)>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let picture = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--svg", path] => Some(path),
        _ => return Err("the only argument is `--svg <path>`".into()),
    };

    let mut runs = Vec::new();
    for policy in &POLICIES {
        runs.push(run(policy).await?);
    }
    println!("{LIMIT} requests in {WINDOW:?}, counted in four ways:\n\n{}", Table(&runs));
    if let Some(path) = picture {
        std::fs::write(path, Picture(&runs).to_string()).map_err(|error| format!("{path}: {error}"))?;
        println!("The picture is in {path}");
    }
    Ok(())
}

/// Runs the traffic against `policy`.
async fn run(policy: &Policy) -> Result<Run, Box<dyn Error>> {
    // A clock that stands still until it is advanced, and a limiter that runs on it.
    let clock = ManualClock::default();
    let limiter = RateLimiter::builder().clock(&clock).build().await?;

    let mut run = Run { policy: policy.name(), phases: Vec::new(), windows: Vec::new() };
    let mut now = Duration::ZERO;
    for phase in &TRAFFIC {
        let mut requests = Vec::new();
        for number in 0..phase.count {
            let time = phase.start + number * phase.every;
            clock.advance(time.saturating_sub(now));
            now = time;
            let decision = limiter.check(policy, "a client").await?;
            requests.push(Request { time, admitted: decision.is_allowed() });

            // A fixed window's quota is whole again when the window ends.
            let ends = now + decision.reset();
            if policy.counted_by() == Algorithm::FixedWindow
                && run.windows.last().is_none_or(|(_, last)| *last < ends)
            {
                run.windows.push((now, ends));
            }
        }
        run.phases.push(requests);
    }
    Ok(run)
}

impl Run {
    fn requests(&self) -> impl Iterator<Item = Request> + '_ {
        self.phases.iter().flatten().copied()
    }

    fn admitted(&self) -> usize {
        admitted(self.requests())
    }

    /// Returns the most requests that were admitted in any time span as long as `window`.
    fn most_in(&self, window: Duration) -> usize {
        let from = |start: Duration| {
            self.requests().filter(move |request| (start..start + window).contains(&request.time))
        };
        self.requests().map(|request| admitted(from(request.time))).max().unwrap_or_default()
    }
}

fn admitted(requests: impl Iterator<Item = Request>) -> usize {
    requests.filter(|request| request.admitted).count()
}

/// A table with one line per policy.
struct Table<'a>(&'a [Run]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, one, other, steady] = TRAFFIC.map(|phase| format!("{} s", phase.start.as_secs_f32()));
        let steady = format!("{steady} on, one each 500 ms; o = admitted");
        writeln!(f, "{:15} {first:>7} {one:>7} {other:>7}  {steady:40} {:>6}  most in any", "at", "all")?;
        let [first, one, other, steady] = TRAFFIC.map(|phase| phase.count);
        let all = first + one + other + steady;
        write!(f, "{:15} {first:>7} {one:>7} {other:>7}  {steady:<40} {all:>6}", "asked")?;
        writeln!(f, " {:>6} {:>5}", format!("{WINDOW:?}"), format!("{SHORT:?}"))?;
        for run in self.0 {
            write!(f, "{:15}", run.policy)?;
            let (steady, bursts) = run.phases.split_last().ok_or(fmt::Error)?;
            for burst in bursts {
                write!(f, " {:>7}", admitted(burst.iter().copied()))?;
            }
            let steady: String =
                steady.iter().map(|request| if request.admitted { 'o' } else { '.' }).collect();
            let (long, short) = (run.most_in(WINDOW), run.most_in(SHORT));
            writeln!(f, "  {steady:40} {:>6} {long:>6} {short:>5}", run.admitted())?;
        }
        Ok(())
    }
}

/// An SVG with one row per policy, in which simultaneous requests are stacked.
///
/// It has its own background, so it can be read on a dark page. It has neither a style sheet nor empty
/// lines, so it can be embedded in HTML and Markdown as it is.
struct Picture<'a>(&'a [Run]);

/// Sizes in pixels.
const WIDTH: f32 = 840.0;
const LEFT: f32 = 26.0;
const TOP: f32 = 62.0;
const ROW: f32 = 120.0;
const SECOND: f32 = 24.6;
const MARK: f32 = 7.4;
/// The end of the time axis, in seconds.
const SECONDS: u16 = 32;

/// Colours that most colour-blind readers can tell apart (Okabe and Ito). The marks differ in shape, too.
const ADMITTED: &str = "#0072b2";
const DENIED: &str = "#d55e00";
const INK: &str = "#222";
const GREY: &str = "#666";
const TINT: &str = "#eee";

impl fmt::Display for Picture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.0.iter().fold(0.0, |height, _| height + ROW);
        let (bottom, height) = (TOP + rows, TOP + rows + 46.0);
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" style="max-width:100%" role="img" aria-label="What four algorithms admit of the same traffic" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="13" fill="{INK}">"#
        )?;
        writeln!(f, r##"<rect width="{WIDTH}" height="{height}" rx="6" fill="#fff"/>"##)?;
        writeln!(
            f,
            r#"<defs><circle id="arl-a" r="3.1" fill="{ADMITTED}"/><path id="arl-d" d="M-2.7-2.7 2.7 2.7M-2.7 2.7 2.7-2.7" stroke="{DENIED}" stroke-width="1.6"/></defs>"#
        )?;
        legend(f)?;
        let mut top = TOP;
        for run in self.0 {
            row(f, top, run)?;
            top += ROW;
        }
        axis(f, bottom)?;
        writeln!(f, "</svg>")
    }
}

fn legend(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let middle = 26.0;
    let text = middle + 4.5;
    writeln!(
        f,
        r#"<text x="{LEFT}" y="{text}" font-size="15" font-weight="600">The same requests under a limit of {LIMIT} in {} s</text>"#,
        WINDOW.as_secs()
    )?;
    let mut x = 500.0;
    for (mark, label, width) in [("a", "admitted", 90.0), ("d", "denied", 82.0)] {
        writeln!(
            f,
            r##"<use href="#arl-{mark}" x="{x}" y="{middle}"/><text x="{}" y="{text}">{label}</text>"##,
            x + 9.0
        )?;
        x += width;
    }
    window(f, [x, x + 24.0, middle - 9.0, middle + 9.0])?;
    writeln!(f, r#"<text x="{}" y="{text}">a fixed window</text>"#, x + 32.0)
}

fn row(f: &mut fmt::Formatter<'_>, top: f32, run: &Run) -> fmt::Result {
    let floor = top + ROW - 14.0;
    writeln!(
        f,
        r#"<text x="{LEFT}" y="{:.1}"><tspan font-family="ui-monospace, 'DejaVu Sans Mono', monospace" font-weight="600">{}</tspan><tspan fill="{GREY}" dx="12">{} of {} admitted, at most {} in any {} s and {} in any {} s</tspan></text>"#,
        top + 13.0,
        run.policy,
        run.admitted(),
        run.requests().count(),
        run.most_in(WINDOW),
        WINDOW.as_secs(),
        run.most_in(SHORT),
        SHORT.as_secs(),
    )?;
    let end = Duration::from_secs(SECONDS.into());
    for (begins, ends) in &run.windows {
        window(f, [x(*begins), x(*ends), floor - 80.0, floor])?;
    }
    line(f, [x(Duration::ZERO) - 6.0, x(end), floor, floor])?;
    let (mut last, mut y) = (None, 0.0);
    for Request { time, admitted } in run.requests() {
        y = if last == Some(time) { y - MARK } else { floor - MARK / 2.0 - 1.5 };
        last = Some(time);
        let mark = if admitted { 'a' } else { 'd' };
        writeln!(f, r##"<use href="#arl-{mark}" x="{:.1}" y="{y:.1}"/>"##, x(time))?;
    }
    Ok(())
}

fn axis(f: &mut fmt::Formatter<'_>, y: f32) -> fmt::Result {
    let mut labels = String::new();
    for second in (0..=SECONDS).step_by(2) {
        let x = x(Duration::from_secs(second.into()));
        line(f, [x, x, y, y + 5.0])?;
        write!(labels, r#"<text x="{x:.1}" y="{:.1}">{second}</text>"#, y + 19.0)?;
    }
    line(f, [x(Duration::ZERO) - 6.0, x(Duration::from_secs(SECONDS.into())), y, y])?;
    writeln!(f, r#"<g font-size="12" text-anchor="middle" fill="{GREY}">{labels}"#)?;
    writeln!(f, r#"<text x="{}" y="{}">seconds</text></g>"#, WIDTH / 2.0, y + 37.0)
}

/// Returns the horizontal position of `time`.
fn x(time: Duration) -> f32 {
    LEFT + 6.0 + time.as_secs_f32() * SECOND
}

fn line(f: &mut fmt::Formatter<'_>, [from, to, above, below]: [f32; 4]) -> fmt::Result {
    writeln!(f, r#"<path d="M{from:.1} {above:.1}L{to:.1} {below:.1}" stroke="{GREY}"/>"#)
}

/// Draws a fixed window: its edges, as far as they are within the picture, and a tint between them.
fn window(f: &mut fmt::Formatter<'_>, [from, to, above, below]: [f32; 4]) -> fmt::Result {
    let end = x(Duration::from_secs(SECONDS.into()));
    let edges = if to <= end { format!("M{to:.1} {above:.1}V{below:.1}") } else { String::new() };
    let to = to.min(end);
    writeln!(f, r#"<path d="M{from:.1} {above:.1}H{to:.1}V{below:.1}H{from:.1}z" fill="{TINT}"/>"#)?;
    writeln!(f, r#"<path d="M{from:.1} {above:.1}V{below:.1}{edges}" stroke="{GREY}" stroke-width=".8"/>"#)
}
