//! A stream of documents, cut where `kubectl` cuts it.

/// One document with the line that separates it from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    /// Everything, as it was written.
    pub(crate) text: &'a str,
    /// Whether it begins with `---`.
    pub(crate) separated: bool,
    /// The line of the stream on which it begins, from 1.
    pub(crate) line: usize,
}

/// The documents of `stream`; joined together they are `stream` again.
pub(crate) fn documents(stream: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut offset, mut first_line) = (0, 0, 1);
    for (index, line) in stream.split_inclusive('\n').enumerate() {
        if is_separator(line) && offset > start {
            documents.push(document(&stream[start..offset], first_line));
            (start, first_line) = (offset, index + 1);
        }
        offset += line.len();
    }
    if offset > start {
        documents.push(document(&stream[start..], first_line));
    }
    documents
}

fn document(text: &str, line: usize) -> Document<'_> {
    Document {
        text,
        separated: text.lines().next().is_some_and(is_separator),
        line,
    }
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_join_to_the_stream_they_came_from() {
        for stream in [
            "",
            "a: 1",
            "---\na: 1\n---\nb: 2\n",
            "a: 1\n--- # two\nb: |\n  ---\n  x\n---",
        ] {
            let joined: String = documents(stream).iter().map(|d| d.text).collect();
            assert_eq!(joined, stream);
        }
    }

    #[test]
    fn a_line_of_dashes_separates_and_an_indented_one_does_not() {
        let found = documents("a: |\n  ---\n---\nb: 2\n----: 3\n");
        let lines: Vec<_> = found.iter().map(|d| (d.line, d.separated)).collect();
        assert_eq!(lines, [(1, false), (3, true)]);
    }
}
