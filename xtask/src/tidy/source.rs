//! Just enough of Rust's syntax: what is a comment or a literal, and where functions begin and end.

/// The same text, every character of a comment or of a string or character literal replaced by a space. Lines keep
/// their numbers.
pub fn without_comments_and_strings(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let rest = &characters[at..];
        let length = match literal_or_comment(rest, characters[..at].last().copied()) {
            0 => {
                code.push(characters[at]);
                at += 1;
                continue;
            }
            length => length.min(rest.len()),
        };
        code.extend(rest[..length].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at += length;
    }
    code
}

/// Length of the comment or literal that begins here, 0 when none does.
fn literal_or_comment(rest: &[char], before: Option<char>) -> usize {
    match rest {
        ['/', '/', ..] => rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => 1 + quoted(&rest[1..], '"'),
        ['r', '"' | '#', ..] if !is_word(before) || before == Some('b') => raw_string(rest),
        ['\'', '\\', ..] => 1 + quoted(&rest[1..], '\''),
        // A lifetime has no closing quote two characters on.
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

fn is_word(character: Option<char>) -> bool {
    character.is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Block comments nest.
fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length up to and with the closing quote.
fn quoted(inside: &[char], close: char) -> usize {
    let mut at = 0;
    while at < inside.len() {
        match inside[at] {
            '\\' => at += 2,
            c if c == close => return at + 1,
            _ => at += 1,
        }
    }
    inside.len()
}

/// `r"…"`, `r#"…"#`; 0 for a raw identifier.
fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let start = 2 + hashes;
    let mut close = vec!['"'];
    close.extend(std::iter::repeat_n('#', hashes));
    let body = rest.get(start..).unwrap_or_default();
    let end = body.windows(close.len()).position(|window| window == close.as_slice());
    end.map_or(rest.len(), |end| start + end + close.len())
}

/// A function and how long it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// Of the `fn` keyword, counted from 1.
    pub line: usize,
    /// Lines inside the braces that hold code.
    pub body_lines: usize,
}

/// Every function with a body in `code`, which has no comments or literals any more; nested ones too.
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        if is_word(code[..start].chars().next_back()) {
            continue;
        }
        let rest = &code[start + "fn ".len()..];
        let name: String = rest.chars().take_while(|&c| is_word(Some(c))).collect();
        // A type such as `fn (u32)` has no name.
        if name.is_empty() {
            continue;
        }
        if let Some(body) = body(rest) {
            let body_lines = body.lines().filter(|line| !line.trim().is_empty()).count();
            found.push(Function {
                name,
                line: code[..start].matches('\n').count() + 1,
                body_lines,
            });
        }
    }
    found
}

/// What stands between the first `{` and its `}`; nothing for a declaration in a trait, which ends before one.
fn body(code: &str) -> Option<&str> {
    let open = signature_end(code)?;
    let mut depth = 0_usize;
    for (at, character) in code[open..].char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => (),
        }
        if depth == 0 {
            return code.get(open + 1..open + at);
        }
    }
    None
}

/// Where the body opens. A semicolon in brackets belongs to an array's type and ends nothing.
fn signature_end(code: &str) -> Option<usize> {
    let mut brackets = 0_usize;
    for (at, character) in code.char_indices() {
        match character {
            '[' | '(' => brackets += 1,
            ']' | ')' => brackets = brackets.saturating_sub(1),
            '{' if brackets == 0 => return Some(at),
            ';' if brackets == 0 => return None,
            _ => (),
        }
    }
    None
}
