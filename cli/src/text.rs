//! Text from elsewhere, made safe to show.

/// `text` without anything that a terminal would act on (C6), cut to 253
/// characters: as long as the longest name in Kubernetes.
pub(crate) fn escaped(text: &str) -> String {
    text.chars().take(253).flat_map(escape).collect()
}

/// As [`escaped`], for messages: line breaks stay, and so does its length.
pub(crate) fn escaped_lines(text: &str) -> String {
    let keep_breaks = |c| if c == '\n' { vec![c] } else { escape(c) };
    text.chars().flat_map(keep_breaks).collect()
}

fn escape(c: char) -> Vec<char> {
    if c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    {
        c.escape_default().collect()
    } else {
        vec![c]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6_what_a_terminal_would_act_on_is_escaped() {
        assert_eq!(
            escaped("web\u{1b}[31m\n\u{202e}"),
            "web\\u{1b}[31m\\n\\u{202e}"
        );
        assert_eq!(escaped_lines("a\nb\r"), "a\nb\\r");
    }
}
