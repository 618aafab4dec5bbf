//! Hops as text.

use std::{
    fmt::Write,
    io::{self, IsTerminal},
};

use super::{Hop, Place, State, Verdict, first_broken, first_warning, verdict};
use crate::text::{escaped, escaped_lines};

/// Whether colours may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// No.
    Plain,
    /// What is broken first is red, and what is broken for that reason; what
    /// something else stands in for is yellow.
    Coloured,
}

impl Style {
    /// Colours on a terminal, unless `NO_COLOR` is set (no-color.org).
    pub(crate) fn of_output() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if unwanted || !io::stdout().is_terminal() {
            Self::Plain
        } else {
            Self::Coloured
        }
    }
}

/// The list of hops, and what they come to.
pub(crate) fn text(title: &str, hops: &[Hop], style: Style) -> String {
    let mut out = format!("{}\n", escaped_lines(title));
    let first = first_broken(hops);
    for (at, hop) in hops.iter().enumerate() {
        let colour = match style {
            Style::Plain => None,
            Style::Coloured => colour(hop.state, first == Some(at)),
        };
        // Writing to a String cannot fail.
        let _ = write_hop(&mut out, hop, colour);
    }
    let _ = writeln!(out, "\n{}", conclusion(hops));
    out
}

const fn colour(state: State, is_first: bool) -> Option<&'static str> {
    match state {
        State::Broken if is_first => Some(RED),
        State::Follows => Some(RED),
        State::Warning => Some(YELLOW),
        State::Good | State::Broken | State::Unknown => None,
    }
}

fn write_hop(out: &mut String, hop: &Hop, colour: Option<&str>) -> std::fmt::Result {
    let mark = match hop.state {
        State::Good => "√",
        State::Broken => "×",
        State::Follows => "↳",
        State::Warning => "!",
        State::Unknown => "?",
    };
    let (on, off) = colour.map_or(("", ""), |colour| (colour, RESET));
    let place = match hop.about.as_str() {
        "" => place(hop.place).to_owned(),
        about => format!("{} ({})", place(hop.place), escaped(about)),
    };
    writeln!(out, "{on}{mark} {place:<22} {}{off}", one_line(&hop.text))?;
    if !hop.advice.is_empty() && hop.state != State::Good {
        writeln!(out, "{:25}{}", "", one_line(&hop.advice))?;
    }
    Ok(())
}

/// Text from elsewhere, on one line.
fn one_line(text: &str) -> String {
    escaped_lines(&text.replace('\n', " "))
}

const fn place(place: Place) -> &'static str {
    match place {
        Place::Client => "Client",
        Place::Name => "Name",
        Place::Control => "Control plane",
        Place::Service => "Service",
        Place::Route => "Route",
        Place::Link => "Link",
        Place::Mirror => "Mirror",
        Place::Gateway => "Gateway",
        Place::PeerControl => "Its control",
        Place::Export => "Export",
        Place::Endpoints => "Endpoints",
        Place::Connection => "Connection",
        Place::Policy => "Policy",
    }
}

fn conclusion(hops: &[Hop]) -> String {
    let at = |at: Option<usize>| at.map_or("", |at| place(hops[at].place));
    match verdict(hops) {
        Verdict::Good => "Everything on the way works.".into(),
        Verdict::Broken => format!("Broken at: {}.", at(first_broken(hops))),
        Verdict::Degraded => format!(
            "Broken at: {}. Something else stands in for it.",
            at(first_warning(hops))
        ),
        Verdict::Unknown if first_warning(hops).is_some() => format!(
            "Broken at: {}. Whether something else stands in for it could not be seen.",
            at(first_warning(hops))
        ),
        Verdict::Unknown => {
            "Nothing that was seen is broken, but not everything could be seen.".into()
        }
    }
}

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const RESET: &str = "\u{1b}[0m";

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(place: Place, state: State) -> Hop {
        Hop {
            place,
            about: "east".into(),
            state,
            text: "a\u{1b}[2Jb\nc".into(),
            advice: "do".into(),
        }
    }

    #[test]
    fn c6_text_from_clusters_cannot_act_on_the_terminal() {
        let text = text("t\u{1b}", &[hop(Place::Link, State::Unknown)], Style::Plain);
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains("? Link (east)"), "{text}");
        assert!(text.contains("a\\u{1b}[2Jb c"), "{text}");
    }

    #[test]
    fn only_the_first_broken_hop_is_red() {
        let hops = [
            hop(Place::Link, State::Good),
            hop(Place::Gateway, State::Broken),
            hop(Place::Export, State::Broken),
        ];
        let coloured = text("t", &hops, Style::Coloured);
        assert_eq!(coloured.matches("\u{1b}[31m").count(), 1);
        assert!(coloured.contains("\u{1b}[31m× Gateway"));
        assert!(coloured.ends_with("Broken at: Gateway.\n"));
        assert!(!text("t", &hops, Style::Plain).contains('\u{1b}'));
    }

    #[test]
    fn what_something_else_stands_in_for_is_yellow_and_not_called_well() {
        let hops = [
            hop(Place::Route, State::Good),
            hop(Place::Gateway, State::Warning),
        ];
        let coloured = text("t", &hops, Style::Coloured);
        assert!(coloured.contains("\u{1b}[33m! Gateway"), "{coloured}");
        assert!(coloured.ends_with("Broken at: Gateway. Something else stands in for it.\n"));
    }

    #[test]
    fn what_is_broken_is_named_if_it_is_not_known_what_stands_in_for_it() {
        let hops = [
            hop(Place::Route, State::Unknown),
            hop(Place::Gateway, State::Warning),
        ];
        let text = text("t", &hops, Style::Plain);
        let end = "Broken at: Gateway. Whether something else stands in for it could not be seen.";
        assert!(text.trim_end().ends_with(end), "{text}");
    }

    #[test]
    fn what_is_unknown_is_not_called_well() {
        let hops = [
            hop(Place::Link, State::Good),
            hop(Place::Policy, State::Unknown),
        ];
        assert!(text("t", &hops, Style::Plain).contains("not everything could be seen"));
    }
}
