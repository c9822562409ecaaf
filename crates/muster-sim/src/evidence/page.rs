//! The page: Markdown made of records.

use std::fmt::Write as _;

use crate::check;
use crate::evidence::sums::{Ring, Sums, good};
use crate::evidence::{Campaign, Chaos, DefectFound, Detected, Evidence, Found};

/// Campaigns on real processes shown one by one; older ones are in the sums.
const SHOWN: usize = 25;

const HEAD: &str = "# Evidence

What has been run, and what it found. Made by `muster-sim evidence` from the records in [evidence/](evidence), to which the programs append; a test
fails when page and records differ. [testing.md](testing.md) explains the rings, [chaos.md](chaos.md) the faults. A fault *took effect* when
it was seen to do something. All figures are running sums over all campaigns kept, on machines with two cores that did other work at the same time.
";

pub(super) fn page(evidence: &Evidence) -> String {
    let sums = Sums::of(&evidence.campaigns);
    let mut page = HEAD.to_owned();
    totals(&mut page, &sums);
    faults(&mut page, &sums);
    checkers(&mut page, &sums);
    campaigns(&mut page, &evidence.campaigns);
    defects(&mut page, &evidence.campaigns);
    failpoints(&mut page, &sums);
    fuzzing(&mut page, &sums);
    bugs(&mut page, evidence);
    page
}

/// Writing to a string cannot fail.
macro_rules! line {
    ($page:expr, $($text:tt)*) => {{
        let _ = writeln!($page, $($text)*);
    }};
}

fn section(page: &mut String, title: &str, columns: &[&str]) {
    line!(page, "\n## {title}\n");
    table(page, columns);
}

fn table(page: &mut String, columns: &[&str]) {
    line!(page, "| {} |", columns.join(" | "));
    line!(page, "|{}", "---|".repeat(columns.len()));
}

fn totals(page: &mut String, sums: &Sums) {
    let columns = ["", "Real processes", "Simulated clusters"];
    section(page, "Sums", &columns);
    let rings = [&sums.chaos, &sums.simulation];
    let mut row = |name: &str, value: &dyn Fn(&Ring) -> String| {
        let [chaos, simulation] = rings.map(value);
        line!(page, "| {name} | {chaos} | {simulation} |");
    };
    row("campaigns", &|ring| grouped(ring.campaigns));
    row("time", &|ring| time(ring.seconds));
    row("histories judged", &|ring| grouped(ring.histories));
    row("calls of clients", &|ring| grouped(ring.calls));
    row("entries or commands applied, all nodes together", &|ring| {
        grouped(ring.applied)
    });
    row("things judged by checkers", &|ring| grouped(ring.things()));
    row("faults that took effect", &|ring| grouped(ring.faults_all()[1]));
    row("campaigns or seeds with something wrong", &|ring| grouped(ring.failed));
    line!(
        page,
        "\nOf the calls on real processes {} were of unknown outcome and were repeated under the same id.",
        grouped(sums.chaos.unknown)
    );
}

fn faults(page: &mut String, sums: &Sums) {
    section(page, "Faults", &["On real processes", "Injected", "Took effect"]);
    fault_rows(page, &sums.chaos);
    line!(page, "");
    table(page, &["In simulated clusters", "Injected", "Took effect"]);
    fault_rows(page, &sums.simulation);
}

fn fault_rows(page: &mut String, ring: &Ring) {
    for (kind, [injected, took_effect]) in &ring.faults {
        line!(page, "| {kind} | {} | {} |", grouped(*injected), grouped(*took_effect));
    }
    let [injected, took_effect] = ring.faults_all();
    line!(page, "| **all** | {} | {} |", grouped(injected), grouped(took_effect));
}

fn checkers(page: &mut String, sums: &Sums) {
    let columns = [
        "",
        "What must hold",
        "Judged on real processes",
        "Judged in simulated clusters",
        "Violations",
    ];
    section(page, "Checkers", &columns);
    for checker in check::ALL {
        let [chaos, simulation] =
            [&sums.chaos, &sums.simulation].map(|ring| ring.judged.get(checker.id).copied().unwrap_or_default());
        line!(
            page,
            "| {} | {} | {} | {} | {} |",
            checker.id,
            checker.title,
            grouped(chaos.things),
            grouped(simulation.things),
            grouped(chaos.violations + simulation.violations)
        );
    }
}

fn campaigns(page: &mut String, campaigns: &[Campaign]) {
    let columns = [
        "Command, commit, day",
        "Time",
        "Faults that took effect",
        "Calls done / not done / unknown",
        "Leaders",
        "Longest time without an acknowledgement",
        "Things judged",
        "Result",
    ];
    section(page, "Campaigns on real processes", &columns);
    let chaos: Vec<(&Campaign, &Chaos)> = campaigns
        .iter()
        .filter_map(|campaign| match &campaign.found {
            Found::Chaos(chaos) | Found::Failpoints { chaos, .. } => Some((campaign, &**chaos)),
            _ => None,
        })
        .collect();
    for (campaign, chaos) in chaos.iter().rev().take(SHOWN) {
        campaign_row(page, campaign, chaos);
    }
    if chaos.len() > SHOWN {
        line!(page, "\n{} older ones are in the records.", chaos.len() - SHOWN);
    }
}

fn campaign_row(page: &mut String, campaign: &Campaign, chaos: &Chaos) {
    let sum = |outcome: usize| chaos.calls.values().map(|counts| counts[outcome]).sum::<u64>();
    let took_effect: u64 = chaos.faults.values().map(|counts| counts[1]).sum();
    let violations: u64 = chaos.judged.values().map(|judged| judged.violations).sum();
    let mut result = if good(chaos) {
        "nothing wrong".to_owned()
    } else {
        format!("{violations} violations; {}", counted(&chaos.complaints))
    };
    if !campaign.note.is_empty() {
        let _ = write!(result, ". {}", campaign.note);
    }
    if campaign.copied {
        result.push_str(" (copied from what was printed)");
    }
    line!(
        page,
        "| `{}`, {}, {} | {} | {} | {} / {} / {} | {} | {:.1} s | {} | {result} |",
        campaign.command,
        campaign.commit,
        campaign.day,
        time(campaign.seconds),
        grouped(took_effect),
        grouped(sum(0)),
        grouped(sum(1)),
        grouped(sum(2)),
        chaos.leaders,
        chaos.gap_ms as f64 / 1000.0,
        grouped(chaos.judged.values().map(|judged| judged.things).sum()),
    );
}

/// Each complaint once, in the order of their first, with how often it came if more than once.
fn counted(complaints: &[String]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for complaint in complaints {
        match counts.iter_mut().find(|(known, _)| known == complaint) {
            Some((_, count)) => *count += 1,
            None => counts.push((complaint, 1)),
        }
    }
    let texts = counts.into_iter().map(|(text, count)| match count {
        1 => text.to_owned(),
        count => format!("{count} times: {text}"),
    });
    texts.collect::<Vec<_>>().join("; ")
}

fn defects(page: &mut String, campaigns: &[Campaign]) {
    let last = campaigns.iter().rev().find_map(|campaign| match &campaign.found {
        Found::Defects(defects) => Some((campaign, defects)),
        _ => None,
    });
    let Some((campaign, defects)) = last else { return };
    line!(page, "\n## Bugs put in on purpose\n");
    let found = |defect: &&DefectFound| defect.history.is_some();
    let checkers = |defect: &DefectFound| defect.history.as_ref().map_or(0, |found| found.by.len());
    let twice = |defect: &&DefectFound| checkers(defect) > 1;
    let recounted = |defect: &&DefectFound| checkers(defect) == 1 && defect.recounts.is_some();
    line!(
        page,
        "`{}`, {}, {}: {} of {} found by checkers of the history or because the run stopped, {} of them by two or more, {} others by one\nand by \
         recounts inside the simulator, which no real cluster has and which are therefore counted apart.\n",
        campaign.command,
        campaign.commit,
        campaign.day,
        defects.iter().filter(found).count(),
        defects.len(),
        defects.iter().filter(twice).count(),
        defects.iter().filter(recounted).count(),
    );
    table(
        page,
        &["Bug", "In", "What it does", "Found by", "Seeds", "Seconds", "Recounts"],
    );
    for defect in defects {
        let DefectFound { name, place, what, .. } = defect;
        let (by, seeds, seconds) = match &defect.history {
            Some(found) => (
                found.by.join(" "),
                found.seeds.to_string(),
                format!("{:.2}", found.seconds),
            ),
            None => ("**not found**".to_owned(), String::new(), String::new()),
        };
        let recounts = defect.recounts.as_ref().map(|found: &Detected| found.by.join(" "));
        line!(
            page,
            "| {name} | {place} | {what} | {by} | {seeds} | {seconds} | {} |",
            recounts.unwrap_or_default()
        );
    }
}

fn failpoints(page: &mut String, sums: &Sums) {
    let points = &sums.failpoints;
    if points.is_empty() {
        return;
    }
    line!(page, "\n## Failpoints\n");
    let hit = points
        .values()
        .filter(|acted| acted.values().any(|acted| acted.hits > 0));
    line!(
        page,
        "{} of {} points were hit. How often each acted, by what it was armed with, and how often the process ended by the error. [failpoints.md](failpoints.md) \
         says where they are.\n",
        hit.count(),
        points.len()
    );
    table(page, &["Point", "Died", "Returned an error", "Ended by it", "Paused"]);
    for (name, acted) in points {
        let of = |action: &str| acted.get(action);
        let hits = |action| match of(action) {
            Some(acted) if acted.hits == 0 => "**never**".to_owned(),
            Some(acted) => grouped(acted.hits),
            None => "–".to_owned(),
        };
        let ended = of("fail").map_or_else(|| "–".to_owned(), |acted| grouped(acted.ended));
        line!(
            page,
            "| `{name}` | {} | {} | {ended} | {} |",
            hits("die"),
            hits("fail"),
            hits("pause")
        );
    }
}

fn fuzzing(page: &mut String, sums: &Sums) {
    if sums.fuzzing.is_empty() {
        return;
    }
    let columns = [
        "Decoder",
        "Inputs tried",
        "Time",
        "Edges of code reached",
        "Corpus",
        "Failures",
    ];
    section(page, "Fuzzing", &columns);
    for target in sums.fuzzing.values() {
        line!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            target.name,
            grouped(target.inputs),
            time(target.seconds as f64),
            grouped(target.edges),
            grouped(target.corpus),
            grouped(target.failures)
        );
    }
}

fn bugs(page: &mut String, evidence: &Evidence) {
    let all = &evidence.bugs.bugs;
    section(page, "What was found in Muster", &["Found by", "What", "Now", "Again"]);
    for bug in all.iter().filter(|bug| !bug.mended.is_empty()) {
        line!(
            page,
            "| {} | {} | {} | `{}` |",
            bug.found_by,
            bug.what,
            bug.mended,
            bug.again
        );
    }
    if all.iter().all(|bug| !bug.mended.is_empty()) {
        return;
    }
    line!(page, "\nKnown and not mended:\n");
    table(page, &["Found by", "What", "Again"]);
    for bug in all.iter().filter(|bug| bug.mended.is_empty()) {
        line!(page, "| {} | {} | `{}` |", bug.found_by, bug.what, bug.again);
    }
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn time(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        120.0..7200.0 => format!("{:.1} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_that_came_often_stands_there_once() {
        let complaints = ["gone", "late", "gone", "gone"].map(str::to_owned);
        assert_eq!(counted(&complaints), "3 times: gone; late");
        assert_eq!(counted(&[]), "");
    }

    #[test]
    fn numbers_are_grouped_and_times_have_units() {
        for (number, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), expected);
        }
        assert_eq!([time(7.0), time(125.0), time(9_000.0)], ["7 s", "2.1 min", "2.5 h"]);
    }
}
