//! From an offset in a file to what a person looks for: line, column, and the line itself.

/// A place in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The line itself; a long one is cut to what is around the column.
    pub source: String,
    /// Where in `source` the column is, in characters from 0.
    pub caret: usize,
}

/// How much of a long line is shown before and after the column.
const BEFORE: usize = 60;
const AFTER: usize = 60;

/// The place of a byte.
pub fn of_byte(text: &str, offset: usize) -> Place {
    // Offsets come from boundaries of characters; anything else is moved to one.
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let end = text[offset..].find('\n').map_or(text.len(), |at| offset + at);
    let before = text[start..offset].chars().count();
    let skipped = before.saturating_sub(BEFORE);
    let mut source: String =
        text[start..end].trim_end_matches('\r').chars().skip(skipped).take(BEFORE + AFTER).collect();
    let mut caret = before - skipped;
    if skipped > 0 {
        source.insert(0, '…');
        caret += 1;
    }
    let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
    Place { line, column: before + 1, source, caret }
}

/// The byte at which the `number`th character begins, counted from 1, as PostgreSQL counts.
pub fn byte_of_character(text: &str, number: u32) -> usize {
    let index = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
    text.char_indices().nth(index).map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_and_not_bytes() {
        let text = "SELECT 1;\r\n\tSELECT 'größe', x;\r\n";
        let at = byte_of_character(text, 29);
        assert_eq!(&text[at..=at], "x");
        let place = of_byte(text, at);
        assert_eq!((place.line, place.column, place.caret), (2, 18, 17));
        assert_eq!(place.source, "\tSELECT 'größe', x;");
        assert_eq!(of_byte(text, 9999).line, 3);
        assert_eq!(of_byte("", 0), Place { line: 1, column: 1, source: String::new(), caret: 0 });
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}HERE{}", "a".repeat(1000), "b".repeat(1000));
        let place = of_byte(&text, 1000);
        assert_eq!(place.column, 1001);
        let shown: String = place.source.chars().skip(place.caret).take(4).collect();
        assert_eq!(shown, "HERE");
        assert!(place.source.chars().count() < 130 && place.source.starts_with('…'));
    }
}
