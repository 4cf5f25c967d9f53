//! Which role may call which method. Everything that is not in the table is refused.

use super::Security;
use super::identity::{Deployment, Identity, Role};
use super::incoming::Caller;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

/// One method and the roles that may call it. Agents and routers only call within their deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `/package.Service/Method`.
    pub path: &'static str,
    pub callers: &'static [Role],
}

/// The whole table.
pub const RULES: &[Rule] = &[
    Rule { path: "/boyle.v1.Agent/Assign", callers: &[Role::Operator] },
    Rule { path: "/boyle.v1.Agent/GetStatus", callers: &[Role::Operator, Role::Router] },
    Rule { path: "/boyle.v1.Agent/WatchStatus", callers: &[Role::Operator, Role::Router] },
    Rule { path: "/boyle.v1.Agent/Drain", callers: &[Role::Operator] },
    Rule { path: "/boyle.v1.Agent/FetchExpert", callers: &[Role::Agent] },
    Rule { path: "/boyle.v1.Generation/Generate", callers: &[Role::Router] },
    Rule { path: "/boyle.v1.Exchange/Run", callers: &[Role::Agent] },
    Rule { path: "/boyle.v1.RouterControl/SetHomes", callers: &[Role::Operator] },
    Rule { path: "/boyle.v1.RouterControl/GetRouterStatus", callers: &[Role::Operator] },
];

/// Layer for a tonic server whose connections come from [`Security::incoming`].
#[derive(Clone, Debug)]
pub struct Authorise {
    own: Option<Identity>,
}

/// A service behind the table.
#[derive(Clone, Debug)]
pub struct Authorised<S> {
    inner: S,
    own: Option<Identity>,
}

impl Security {
    /// The table as a layer; without TLS everybody may call everything.
    pub fn authorise(&self) -> Authorise {
        Authorise { own: self.identity().cloned() }
    }
}

impl Authorise {
    /// Whether `caller` may call the method at `path` here.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` that names both sides.
    pub fn check(&self, path: &str, caller: &Caller) -> Result<(), Status> {
        check(self.own.as_ref(), path, caller)
    }
}

fn check(own: Option<&Identity>, path: &str, caller: &Caller) -> Result<(), Status> {
    let Some(own) = own else { return Ok(()) };
    let callers = RULES.iter().find(|rule| rule.path == path).map_or(&[][..], |rule| rule.callers);
    let identity = match caller {
        Caller::Known(identity) => identity,
        Caller::Unknown(reason) => {
            return Err(Status::permission_denied(format!(
                "{own} does not know the caller of {path}: {reason}"
            )));
        }
        Caller::Anybody => {
            return Err(Status::permission_denied(format!("{own} takes {path} only over mTLS")));
        }
    };
    let ours = identity.deployment().is_none_or(|theirs| own.deployment() == Some(theirs));
    if ours && callers.contains(&identity.role()) {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "{identity} may not call {path} of {own}; it is for {}",
        allowed(callers, own.deployment())
    )))
}

fn allowed(callers: &[Role], deployment: Option<&Deployment>) -> String {
    let name = |role: &Role| match deployment {
        Some(deployment) => Identity::of(*role, deployment.clone()).to_string(),
        None => role.to_string(),
    };
    let names: Vec<String> = callers.iter().map(name).collect();
    if names.is_empty() { "nobody".into() } else { names.join(" and ") }
}

impl<S> Layer<S> for Authorise {
    type Service = Authorised<S>;

    fn layer(&self, inner: S) -> Authorised<S> {
        Authorised { inner, own: self.own.clone() }
    }
}

type Answering<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S, B> Service<Request<B>> for Authorised<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answering<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let caller = request.extensions().get().unwrap_or(&Caller::Anybody);
        match check(self.own.as_ref(), request.uri().path(), caller) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => {
                tracing::warn!(reason = status.message(), "refused a call");
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}
