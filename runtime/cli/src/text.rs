//! Texts from elsewhere (servers, packs, workflows) on their way to a terminal.

/// The text without control characters, so that nobody else's words can move the cursor, colour the terminal or reorder
/// a line. Line breaks and tabs stay.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// As [`printable`], on one line and cut at `limit` characters.
pub(crate) fn one_line(text: &str, limit: usize) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut cut: String = printable(&flat).chars().take(limit).collect();
    if cut.chars().count() < flat.chars().count() {
        cut.push('…');
    }
    cut
}

fn is_unsafe(c: char) -> bool {
    let is_bidi_control = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && !matches!(c, '\n' | '\t')) || is_bidi_control
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_bidi_controls_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{202e}c\r\n\td"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}\n\td");
    }

    #[test]
    fn long_texts_are_cut_and_say_so() {
        assert_eq!(one_line("one\ntwo three", 7), "one two…");
        assert_eq!(one_line("one\ntwo", 7), "one two");
    }
}
