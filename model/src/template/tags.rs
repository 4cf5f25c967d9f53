//! A look at a template's source before the engine compiles it: an expression can nest as deep as its tag is long, and
//! the engine's parser spends stack on every level.

/// Length of the longest `{{ … }}` or `{% … %}` in bytes, strings and braces inside it considered.
pub(super) fn longest_tag(source: &str) -> usize {
    let mut longest = 0;
    let mut rest = source;
    while let Some((_, tag)) = rest.split_once('{') {
        let length = match tag.as_bytes().first() {
            Some(b'{') => tag_length(tag, b'}'),
            Some(b'%') => tag_length(tag, b'%'),
            Some(b'#') => {
                rest = tag.split_once("#}").map_or("", |(_, after)| after);
                continue;
            }
            _ => {
                rest = tag;
                continue;
            }
        };
        longest = longest.max(length);
        rest = tag.get(length..).unwrap_or("");
    }
    longest
}

/// `tag` starts at the second character of an opening; `closing` comes before the last `}`.
fn tag_length(tag: &str, closing: u8) -> usize {
    let mut quote = None;
    let mut escaped = false;
    let mut braces = 0u32;
    let mut previous = 0;
    for (index, byte) in tag.bytes().enumerate().skip(1) {
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'{') => braces += 1,
            (None, b'}') if braces > 0 => {
                braces -= 1;
                // A brace that closes a map is no half of an end.
                previous = 0;
                continue;
            }
            (None, b'}') if previous == closing => return index + 1,
            (None, _) => {}
        }
        previous = if quote.is_some() { 0 } else { byte };
    }
    tag.len()
}

#[cfg(test)]
mod tests {
    use super::longest_tag;

    #[test]
    fn tags_end_where_the_engine_ends_them() {
        for (source, expected) in [
            ("text } } %}", 0),
            ("{{ a }} {{ bb }}", 7),
            ("{% if '%}' %}{{ x }}", 12),
            ("{{ '\\'}}' }}", 11),
            ("{{ {'a': {'b': 1}} }}", 20),
            ("{# {{ comment }} #}{{a}}", 4),
            ("{{ open", 6),
            ("{{{}}}", 5),
        ] {
            assert_eq!(longest_tag(source), expected, "{source}");
        }
    }
}
