//! What every target asks of text for people.

/// Nothing moves a cursor, ends a line or turns the text around.
pub fn assert_is_line(text: &str) {
    let is_harmful = |character: char| {
        character.is_control()
            || matches!(
                character,
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            )
    };
    assert!(!text.contains(is_harmful), "{text:?}");
}
