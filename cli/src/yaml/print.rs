//! A value to the text of one document.

use std::fmt::Write;

use serde_json::{Map, Value};

/// The keys that people look for first, in the order they expect.
const LEADING: [&str; 5] = ["apiVersion", "kind", "metadata", "name", "namespace"];

/// `value` as a YAML document without a separator. The same value gives the
/// same text, whatever the order of its keys.
pub(crate) fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(entries) if !entries.is_empty() => mapping(&mut out, entries, 0),
        Value::Array(items) if !items.is_empty() => list(&mut out, items, 0),
        other => {
            scalar(&mut out, other, 0);
            out.push('\n');
        }
    }
    out
}

/// Several documents as one stream.
pub(crate) fn stream<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    let documents: Vec<String> = values.into_iter().map(document).collect();
    documents.join("---\n")
}

fn mapping(out: &mut String, entries: &Map<String, Value>, indent: usize) {
    for (index, (key, value)) in ordered(entries).into_iter().enumerate() {
        // The first entry follows the dash of its list item, or the margin.
        if index > 0 {
            margin(out, indent);
        }
        text(out, key);
        out.push(':');
        entry(out, value, indent);
    }
}

fn entry(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            out.push('\n');
            margin(out, indent + 2);
            mapping(out, entries, indent + 2);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            margin(out, indent);
            list(out, items, indent);
        }
        other => {
            out.push(' ');
            scalar(out, other, indent + 2);
            out.push('\n');
        }
    }
}

fn list(out: &mut String, items: &[Value], indent: usize) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            margin(out, indent);
        }
        out.push_str("- ");
        match item {
            Value::Object(entries) if !entries.is_empty() => mapping(out, entries, indent + 2),
            Value::Array(items) if !items.is_empty() => list(out, items, indent + 2),
            other => {
                scalar(out, other, indent + 2);
                out.push('\n');
            }
        }
    }
}

fn ordered(entries: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let rank = |key: &str| LEADING.iter().position(|leading| *leading == key);
    let mut ordered: Vec<_> = entries.iter().collect();
    ordered.sort_by_key(|(key, _)| (rank(key).unwrap_or(LEADING.len()), key.as_str()));
    ordered
}

fn margin(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(lines) if fits_a_block(lines) => block(out, lines, indent),
        Value::String(line) => text(out, line),
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

/// Whether a literal block (`|`) gives exactly these lines back.
fn fits_a_block(text: &str) -> bool {
    text.ends_with('\n')
        && !text.ends_with("\n\n")
        && !text.starts_with([' ', '\n'])
        && text.chars().all(|c| c == '\n' || is_printable(c))
}

fn block(out: &mut String, lines: &str, indent: usize) {
    out.push('|');
    for line in lines.lines() {
        out.push('\n');
        if !line.is_empty() {
            margin(out, indent);
            out.push_str(line);
        }
    }
}

fn text(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
    } else {
        quoted(out, text);
    }
}

/// Whether every YAML reader takes the bare text for this text.
fn is_plain(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let reserved = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(inner)
        && !reserved.contains(&text.to_ascii_lowercase().as_str())
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_printable(c) => out.push(c),
            c => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
}

/// C6: nothing that a terminal would act on, and nothing that ends a line.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::read;
    use serde_json::json;

    #[test]
    fn an_object_reads_as_people_write_it() {
        let value = json!({
            "spec": {"ports": [{"port": 80, "name": "http"}], "none": [], "args": ["a", "b"]},
            "metadata": {"name": "web", "labels": {"mesh.dev/exported": "true"}},
            "kind": "Service", "apiVersion": "v1",
        });
        let expected = "\
apiVersion: v1
kind: Service
metadata:
  name: web
  labels:
    mesh.dev/exported: \"true\"
spec:
  args:
  - a
  - b
  none: []
  ports:
  - name: http
    port: 80
";
        assert_eq!(document(&value), expected);
    }

    #[test]
    fn text_that_looks_like_something_else_is_quoted() {
        for text in [
            "yes", "0644", "1e3", "1_0", "~", "", "- a", "a: b", "#", "NO", "é", "*a",
        ] {
            let printed = document(&json!(text));
            assert!(printed.starts_with('"'), "{printed}");
            assert_eq!(read::document(&printed), Ok(Some(json!(text))));
        }
    }

    #[test]
    fn what_is_printed_reads_back_as_it_was() {
        let value = json!({
            "a": "x\ny\n", "b": "x\n\n", "c": " x\n", "d": "x\u{1b}[31m\n", "e": "x\n\n y\n",
            "f": [[1, [2, {"g": null}]], [], {}], "0": -1, "h": 0.5, "i": {"j": {"k\n": "\t"}},
            "l": "\u{2028}\u{7f}\u{85}", "m": "#x\n# y\n", "n": "\"\\", "o": "x\r\ny\n",
        });
        assert_eq!(read::document(&document(&value)), Ok(Some(value)));
    }
}
