//! Tables as `kubectl` prints them.

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::text::escaped;

/// How a list is printed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ListArgs {
    /// Print JSON instead of a table
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// JSON
    Json,
}

/// A line of a table.
pub(crate) trait Row: Serialize {
    /// The heads of the columns.
    const HEADS: &'static [&'static str];

    /// One cell for each head.
    fn cells(&self) -> Vec<String>;
}

/// `rows`, as the user wants them; `none` says that there are none.
///
/// # Errors
/// If they cannot be written as JSON, which no input can cause.
pub(crate) fn print<R: Row>(rows: &[R], args: ListArgs, none: &str) -> anyhow::Result<String> {
    match args.output {
        Some(Format::Json) => {
            let json = serde_json::to_string_pretty(rows).context("cannot write JSON")?;
            Ok(json + "\n")
        }
        None if rows.is_empty() => Ok(format!("{none}\n")),
        None => Ok(table(rows)),
    }
}

fn table<R: Row>(rows: &[R]) -> String {
    let heads = R::HEADS.iter().map(ToString::to_string).collect();
    let cells = |row: &R| row.cells().iter().map(|cell| shown(cell)).collect();
    let lines: Vec<Vec<String>> = std::iter::once(heads)
        .chain(rows.iter().map(cells))
        .collect();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..R::HEADS.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let padded = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let padded: Vec<String> = padded.collect();
        out += padded.join("   ").trim_end();
        out.push('\n');
    }
    out
}

/// A cell: escaped (C6), and never empty.
fn shown(cell: &str) -> String {
    if cell.is_empty() {
        "-".into()
    } else {
        escaped(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pod {
        name: &'static str,
        why: &'static str,
    }

    impl Row for Pod {
        const HEADS: &'static [&'static str] = &["NAME", "WHY"];

        fn cells(&self) -> Vec<String> {
            vec![self.name.into(), self.why.into()]
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            Pod {
                name: "long-name",
                why: "",
            },
            Pod {
                name: "a",
                why: "b",
            },
        ];
        assert_eq!(
            table(&rows),
            "NAME        WHY\nlong-name   -\na           b\n"
        );
        let plain = ListArgs { output: None };
        assert_eq!(print::<Pod>(&[], plain, "none").unwrap(), "none\n");
    }

    #[test]
    fn c6_cells_cannot_act_on_the_terminal() {
        let rows = [Pod {
            name: "a\u{1b}[31m\n",
            why: "x",
        }];
        assert!(table(&rows).contains("a\\u{1b}[31m\\n   x"));
        let json = ListArgs {
            output: Some(Format::Json),
        };
        assert!(!print(&rows, json, "none").unwrap().contains('\u{1b}'));
    }
}
