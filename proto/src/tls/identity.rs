//! Names in certificates: a role in a deployment. Pure.

use rustls::pki_types::CertificateDer;
use std::fmt;
use std::str::FromStr;
use x509_parser::extensions::GeneralName;

/// All names end so. It is no real domain: nobody resolves it.
pub const DOMAIN: &str = "boyle.internal";

/// Longest DNS label.
const LABEL_BYTES_MAX: usize = 63;

/// A `ModelDeployment` by name and namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deployment {
    name: String,
    namespace: String,
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Agent,
    Router,
    Operator,
}

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    Agent(Deployment),
    Router(Deployment),
    Operator,
}

/// A name that is none of ours, or a certificate without one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("{field} {value:?} is no DNS label; use 1 to 63 lower-case letters, digits and dashes")]
    Label { field: &'static str, value: String },
    #[error(
        "{name:?} names no part of Boyle; use agent.NAME.NAMESPACE.{DOMAIN}, \
         router.NAME.NAMESPACE.{DOMAIN} or operator.{DOMAIN}"
    )]
    Unknown { name: String },
    #[error("the certificate cannot be read: {reason}")]
    Certificate { reason: String },
    #[error(
        "the certificate's DNS names are {found:?}; one of them must be agent.NAME.NAMESPACE.{DOMAIN}, \
         router.NAME.NAMESPACE.{DOMAIN} or operator.{DOMAIN}"
    )]
    NoName { found: Vec<String> },
    #[error("the certificate has several of Boyle's names, {found:?}; issue one for each role")]
    SeveralNames { found: Vec<String> },
}

impl Deployment {
    /// Checks both names.
    ///
    /// # Errors
    /// [`IdentityError::Label`].
    pub fn new(name: &str, namespace: &str) -> Result<Self, IdentityError> {
        for (field, value) in [("deployment", name), ("namespace", namespace)] {
            if !is_label(value) {
                return Err(IdentityError::Label { field, value: value.to_owned() });
            }
        }
        Ok(Self { name: name.to_owned(), namespace: namespace.to_owned() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Agent => "agent",
            Self::Router => "router",
            Self::Operator => "operator",
        })
    }
}

impl Identity {
    /// The agents of a deployment and so on; the operator has none.
    pub fn of(role: Role, deployment: Deployment) -> Self {
        match role {
            Role::Agent => Self::Agent(deployment),
            Role::Router => Self::Router(deployment),
            Role::Operator => Self::Operator,
        }
    }

    /// The one name of ours among a certificate's DNS names.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let unreadable =
            |reason: &dyn fmt::Display| IdentityError::Certificate { reason: reason.to_string() };
        let (_, parsed) =
            x509_parser::parse_x509_certificate(certificate).map_err(|error| unreadable(&error))?;
        let names = parsed.subject_alternative_name().map_err(|error| unreadable(&error))?;
        let mut all = Vec::new();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            if let GeneralName::DNSName(name) = name {
                all.push((*name).to_owned());
            }
        }
        let ours: Vec<Self> = all.iter().filter_map(|name| name.parse().ok()).collect();
        match <[Self; 1]>::try_from(ours) {
            Ok([identity]) => Ok(identity),
            Err(ours) if ours.is_empty() => Err(IdentityError::NoName { found: all }),
            Err(ours) => {
                let found = ours.iter().map(ToString::to_string).collect();
                Err(IdentityError::SeveralNames { found })
            }
        }
    }

    pub fn role(&self) -> Role {
        match self {
            Self::Agent(_) => Role::Agent,
            Self::Router(_) => Role::Router,
            Self::Operator => Role::Operator,
        }
    }

    /// The deployment it belongs to; the operator belongs to none.
    pub fn deployment(&self) -> Option<&Deployment> {
        match self {
            Self::Agent(deployment) | Self::Router(deployment) => Some(deployment),
            Self::Operator => None,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(Deployment { name, namespace })
            | Self::Router(Deployment { name, namespace }) => {
                write!(formatter, "{}.{name}.{namespace}.{DOMAIN}", self.role())
            }
            Self::Operator => write!(formatter, "{}.{DOMAIN}", Role::Operator),
        }
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let unknown = || IdentityError::Unknown { name: text.to_owned() };
        let name = text.strip_suffix(DOMAIN).and_then(|name| name.strip_suffix('.'));
        let labels: Vec<&str> = name.ok_or_else(unknown)?.split('.').collect();
        match labels[..] {
            ["agent", name, namespace] => Ok(Self::Agent(Deployment::new(name, namespace)?)),
            ["router", name, namespace] => Ok(Self::Router(Deployment::new(name, namespace)?)),
            ["operator"] => Ok(Self::Operator),
            [..] => Err(unknown()),
        }
    }
}
