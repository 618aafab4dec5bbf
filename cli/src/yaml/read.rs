//! One document's text to its value.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

use super::scalar;

/// Deeper nesting is refused; Kubernetes objects stay far below.
const MAX_DEPTH: usize = 100;
/// More values, counted with what aliases repeat, are refused.
const MAX_VALUES: usize = 1_000_000;

/// The text is no document that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidYaml {
    /// Not YAML.
    #[error("{0}")]
    Syntax(String),
    /// Nested too deep, or with too many values.
    #[error("larger or deeper than any Kubernetes object")]
    TooLarge,
    /// The key of a mapping is no text.
    #[error("a key is a list or a mapping")]
    Key,
    /// The same key twice in one mapping.
    #[error("the key {0:?} occurs twice")]
    Duplicate(String),
    /// An alias to nothing, or to what contains it.
    #[error("an alias without its anchor")]
    Alias,
    /// More than one document where one is expected.
    #[error("two documents without a line of --- between them")]
    SeveralDocuments,
}

/// The value of the one document in `text`; `None` if there is nothing in it.
pub(crate) fn document(text: &str) -> Result<Option<Value>, InvalidYaml> {
    let mut reader = Reader::default();
    for next in Parser::new_from_str(text) {
        let (event, _) = next.map_err(|error| InvalidYaml::Syntax(error.to_string()))?;
        reader.take(event)?;
    }
    Ok(reader.root.filter(|value| !value.is_null()))
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    anchors: HashMap<usize, Value>,
    values: usize,
    root: Option<Value>,
}

/// A list or mapping whose end has not come yet.
struct Open {
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Value>),
    Mapping {
        entries: Map<String, Value>,
        /// Mappings that `<<` brings in; an entry of one's own wins.
        merged: Vec<Value>,
        key: Option<String>,
    },
}

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Result<(), InvalidYaml> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar_value(&text, style, tag.as_deref());
                self.remember(anchor, &value);
                self.put(value)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(anchor, Content::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => self.begin(
                anchor,
                Content::Mapping {
                    entries: Map::new(),
                    merged: Vec::new(),
                    key: None,
                },
            ),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).ok_or(InvalidYaml::Alias)?.clone();
                self.values += size(&value);
                self.put(value)
            }
            Event::DocumentStart(..) if self.root.is_some() => Err(InvalidYaml::SeveralDocuments),
            Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::StreamStart
            | Event::StreamEnd
            | Event::Comment(..)
            | Event::Nothing => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, content: Content) -> Result<(), InvalidYaml> {
        if self.open.len() == MAX_DEPTH {
            return Err(InvalidYaml::TooLarge);
        }
        self.open.push(Open { anchor, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), InvalidYaml> {
        let Some(Open { anchor, content }) = self.open.pop() else {
            return Err(InvalidYaml::Syntax("an end without a beginning".into()));
        };
        let value = match content {
            Content::List(items) => Value::Array(items),
            Content::Mapping {
                entries, merged, ..
            } => Value::Object(merge(entries, merged)),
        };
        self.remember(anchor, &value);
        self.put(value)
    }

    fn remember(&mut self, anchor: usize, value: &Value) {
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
    }

    fn put(&mut self, value: Value) -> Result<(), InvalidYaml> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(InvalidYaml::TooLarge);
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(value);
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(value),
            Content::Mapping {
                entries,
                merged,
                key,
            } => match key.take() {
                None => *key = Some(key_text(value)?),
                Some(name) if name == "<<" => merged.push(value),
                Some(name) if entries.contains_key(&name) => {
                    return Err(InvalidYaml::Duplicate(name));
                }
                Some(name) => {
                    entries.insert(name, value);
                }
            },
        }
        Ok(())
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    if style == ScalarStyle::Plain && !is_text {
        scalar::resolve(text)
    } else {
        Value::String(text.into())
    }
}

fn key_text(key: Value) -> Result<String, InvalidYaml> {
    match key {
        Value::String(text) => Ok(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(key.to_string()),
        Value::Array(_) | Value::Object(_) => Err(InvalidYaml::Key),
    }
}

fn merge(mut entries: Map<String, Value>, merged: Vec<Value>) -> Map<String, Value> {
    for source in merged {
        let sources = match source {
            Value::Array(several) => several,
            one => vec![one],
        };
        for source in sources {
            if let Value::Object(source) = source {
                for (name, value) in source {
                    entries.entry(name).or_insert(value);
                }
            }
        }
    }
    entries
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(entries) => 1 + entries.values().map(size).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quoted_scalars_are_text_and_plain_ones_are_resolved() {
        let text = "a: \"0644\"\nb: 0644\nc: 'yes'\nd: yes\ne: !!str 1\nf: |\n  1\n";
        assert_eq!(
            document(text).unwrap().unwrap(),
            json!({"a": "0644", "b": 420, "c": "yes", "d": true, "e": "1", "f": "1\n"})
        );
    }

    #[test]
    fn anchors_and_merges_are_followed() {
        let text = "base: &b {v: 1, w: 2}\nuse:\n  <<: *b\n  w: 3\n";
        assert_eq!(
            document(text).unwrap().unwrap(),
            json!({"base": {"v": 1, "w": 2}, "use": {"v": 1, "w": 3}})
        );
    }

    #[test]
    fn a_document_of_comments_is_nothing() {
        for text in [
            "",
            "---\n",
            "# only words\n",
            "---\n# words\n...\n",
            "null\n",
        ] {
            assert_eq!(document(text), Ok(None), "{text:?}");
        }
    }

    #[test]
    fn json_is_read_too() {
        let text = "{\"kind\": \"Pod\", \"spec\": {\"containers\": [{\"name\": \"a\"}]}}";
        assert_eq!(
            document(text).unwrap().unwrap(),
            json!({"kind": "Pod", "spec": {"containers": [{"name": "a"}]}})
        );
    }

    #[test]
    fn c2_what_is_no_object_is_refused_in_bounded_memory() {
        let deep = "[".repeat(100_000);
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let previous = format!("*a{},", i - 1).repeat(10);
            bomb.push_str(&format!("a{i}: &a{i} [{previous}]\n"));
        }
        for bad in [
            deep.as_str(),
            &bomb,
            "a: [",
            "a: *b",
            "a: 1\na: 2",
            "? [x]\n: y",
        ] {
            assert!(document(bad).is_err(), "{}", &bad[..bad.len().min(40)]);
        }
    }
}
