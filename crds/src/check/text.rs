//! The forms that text fields have. Each is a regular expression in `rules.rs` too.

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// RFC 1035 label, as Services want it.
pub(crate) fn is_service_name(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_lowercase) && is_label(text)
}

/// RFC 1123 label.
fn is_label(text: &str) -> bool {
    let (Some(first), Some(last)) = (text.as_bytes().first(), text.as_bytes().last()) else {
        return false;
    };
    is_lower(*first) && is_lower(*last) && text.bytes().all(|it| is_lower(it) || it == b'-')
}

/// RFC 1123 subdomain: the name of a Secret, a claim, a registry.
pub(crate) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// What hubs take in the names of owners and models, and file names that need no quoting.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'))
}

/// A branch, tag or commit.
pub(crate) fn is_revision(text: &str) -> bool {
    let good = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.' | b'/');
    !text.is_empty() && text.bytes().all(good) && !text.contains("..")
}

/// `domain/name`.
pub(crate) fn is_extended_resource(text: &str) -> bool {
    text.split_once('/').is_some_and(|(domain, name)| is_subdomain(domain) && is_word(name))
}

/// `vendor/model`.
pub(crate) fn is_vendor_and_model(text: &str) -> bool {
    text.split_once('/').is_some_and(|(vendor, model)| {
        is_word(vendor) && model.split('/').all(|part| is_word(&part.replace(':', "-")))
    })
}

/// `http://host` or `https://host`, with a port and a path if need be.
pub(crate) fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let (host, _) = rest.split_once('/').unwrap_or((rest, ""));
        let odd = |it: char| it.is_whitespace() || it.is_control() || matches!(it, '?' | '#' | '@');
        !host.is_empty() && !rest.chars().any(odd)
    })
}

/// `registry/repository:tag@digest`, of which only the repository must be there.
pub(crate) fn is_image(text: &str) -> bool {
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, it)| (name, Some(it)));
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let (repository, tag) = match name.get(last..).and_then(|it| it.split_once(':')) {
        Some((short, tag)) => (name.get(..last + short.len()).unwrap_or_default(), Some(tag)),
        None => (name, None),
    };
    let tagged = tag.is_none_or(|it| it.len() <= 128 && is_word(it));
    let hex = |it: &str| {
        it.len() == 64 && it.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let digested = digest.is_none_or(|it| it.strip_prefix("sha256:").is_some_and(hex));
    let part = |it: &str| is_word(it) && it.bytes().all(|b| !b.is_ascii_uppercase());
    let mut parts = repository.split('/');
    let first = parts.next().unwrap_or_default();
    let (host, port) = first.split_once(':').map_or((first, None), |(host, it)| (host, Some(it)));
    let ported = port
        .is_none_or(|it| !it.is_empty() && it.len() <= 5 && it.bytes().all(|b| b.is_ascii_digit()));
    let alone = port.is_some() && !repository.contains('/');
    part(host) && ported && !alone && parts.all(part) && tagged && digested
}

/// No part climbs out of the folder that was named, and nothing in it is invisible.
pub(crate) fn is_plain_path(text: &str) -> bool {
    !text.split('/').any(|part| part == "..") && !text.chars().any(char::is_control)
}
