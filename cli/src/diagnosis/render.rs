//! Hops as text.

use std::{
    fmt::Write,
    io::{self, IsTerminal},
};

use super::{Hop, Place, State, Verdict, first_broken, verdict};
use crate::text::{escaped, escaped_lines};

/// Whether colours may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// No.
    Plain,
    /// What is broken first is red.
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
        let red = style == Style::Coloured && first == Some(at);
        // Writing to a String cannot fail.
        let _ = write_hop(&mut out, hop, red);
    }
    let _ = writeln!(out, "\n{}", conclusion(hops, first));
    out
}

fn write_hop(out: &mut String, hop: &Hop, red: bool) -> std::fmt::Result {
    let mark = match hop.state {
        State::Good => "√",
        State::Broken => "×",
        State::Follows => "↳",
        State::Unknown => "?",
    };
    let (on, off) = if red {
        ("\u{1b}[31m", "\u{1b}[0m")
    } else {
        ("", "")
    };
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

fn conclusion(hops: &[Hop], first: Option<usize>) -> String {
    match (verdict(hops), first.and_then(|at| hops.get(at))) {
        (Verdict::Good, _) => "Everything on the way works.".into(),
        (Verdict::Broken, Some(hop)) => format!("Broken at: {}.", place(hop.place)),
        (Verdict::Broken | Verdict::Unknown, _) => {
            "Nothing that was seen is broken, but not everything could be seen.".into()
        }
    }
}

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
    fn what_is_unknown_is_not_called_well() {
        let hops = [
            hop(Place::Link, State::Good),
            hop(Place::Policy, State::Unknown),
        ];
        assert!(text("t", &hops, Style::Plain).contains("not everything could be seen"));
    }
}
