//! A request's verb and kind, read from its method and path: labels of metrics. Pure.

use axum::http::{Method, Uri};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub verb: &'static str,
    /// The plural in the path, with its subresource: `pods`, `modeldeployments/status`.
    pub kind: String,
}

impl Asked {
    pub fn new(method: &Method, uri: &Uri) -> Self {
        let (kind, target) = kind(uri.path());
        let watches =
            uri.query().is_some_and(|query| query.split('&').any(|it| it == "watch=true"));
        let verb = match (method, target) {
            (&Method::GET, _) if watches => "watch",
            (&Method::GET, Target::One) => "get",
            (&Method::GET, Target::All) => "list",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, _) => "delete",
            _ => "other",
        };
        Self { verb, kind }
    }

    /// Watches last as long as the server likes; everything else is over soon.
    pub fn is_watch(&self) -> bool {
        self.verb == "watch"
    }

    /// Whether it changes anything.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }
}

enum Target {
    One,
    All,
}

/// `/api/v1/…` and `/apis/group/version/…`, with or without `namespaces/name/` before the plural.
fn kind(path: &str) -> (String, Target) {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let skipped = if parts.next() == Some("api") { 1 } else { 2 };
    let rest: Vec<&str> = parts.skip(skipped).collect();
    let rest = match rest.as_slice() {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        rest => rest,
    };
    match rest {
        [] => ("discovery".to_owned(), Target::All),
        [plural] => ((*plural).to_owned(), Target::All),
        [plural, _] => ((*plural).to_owned(), Target::One),
        [plural, _, subresource, ..] => (format!("{plural}/{subresource}"), Target::One),
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Method};

    #[track_caller]
    fn check(method: &Method, uri: &str, verb: &str, kind: &str) {
        let asked = Asked::new(method, &uri.parse().unwrap());
        assert_eq!((asked.verb, asked.kind.as_str()), (verb, kind), "{uri}");
    }

    #[test]
    fn verbs_and_kinds_are_read_from_paths() {
        check(&Method::GET, "/api/v1/pods?watch=true&labelSelector=a", "watch", "pods");
        check(&Method::GET, "/api/v1/namespaces/a/pods?limit=500", "list", "pods");
        check(&Method::GET, "/api/v1/namespaces/a", "get", "namespaces");
        check(&Method::PATCH, "/apis/apps/v1/namespaces/a/statefulsets/b", "patch", "statefulsets");
        let status = "/apis/boyle.dev/v1alpha1/namespaces/a/modeldeployments/b/status?force=true";
        check(&Method::PATCH, status, "patch", "modeldeployments/status");
        check(&Method::DELETE, "/api/v1/namespaces/a/pods/b", "delete", "pods");
        check(&Method::GET, "/apis/monitoring.coreos.com/v1", "list", "discovery");
    }
}
