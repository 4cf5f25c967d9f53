//! The authorities of an installation, and how one replaces another without anybody losing trust. Pure.

use super::Policy;
use super::authority::{Authority, CertificateError, Leaf, parse_x509, read_certificate};
use super::secret::Checked;
use super::validity::Validity;
use proto::tls::Identity;
use std::time::SystemTime;

/// Who signs now, who signs next, and who is still trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    pub(super) signing: Authority,
    /// Trusted already; signs once everybody trusts it.
    pub(super) next: Option<Authority>,
    /// Signed before; trusted until nobody shows its certificates any more.
    pub(super) previous: Option<Retired>,
}

/// An authority that signs no more; its key is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    pub(super) certificate: String,
    pub(super) validity: Validity,
}

impl Retired {
    /// Reads its certificate.
    pub(super) fn parse(certificate: &str) -> Result<Self, CertificateError> {
        let der = read_certificate(certificate.as_bytes())?;
        let validity = Validity::of(&parse_x509(&der)?);
        Ok(Self { certificate: certificate.to_owned(), validity })
    }
}

impl Authorities {
    /// One new authority.
    ///
    /// # Errors
    /// [`CertificateError`] when the system has no random numbers.
    pub fn generate(policy: &Policy, now: SystemTime) -> Result<Self, CertificateError> {
        Ok(Self { signing: Authority::generate(policy, now)?, next: None, previous: None })
    }

    /// Everybody who is trusted, as `ca.crt` has it.
    pub fn bundle(&self) -> String {
        let mut bundle = self.signing.certificate().to_owned();
        if let Some(next) = &self.next {
            bundle += next.certificate();
        }
        if let Some(previous) = &self.previous {
            bundle += &previous.certificate;
        }
        bundle
    }

    /// The one that signs.
    pub fn signing(&self) -> &Authority {
        &self.signing
    }

    /// A certificate for `identity`.
    ///
    /// # Errors
    /// [`CertificateError`] when the system has no random numbers.
    pub fn issue(
        &self,
        identity: &Identity,
        policy: &Policy,
        now: SystemTime,
    ) -> Result<Leaf, CertificateError> {
        self.signing.issue(identity, policy, now)
    }

    /// Begins to replace the authority before it is due, for a key that may be known to others. `None` while a
    /// replacement is under way.
    ///
    /// # Errors
    /// [`CertificateError`] when the system has no random numbers.
    pub fn replace(
        &self,
        policy: &Policy,
        now: SystemTime,
    ) -> Result<Option<Self>, CertificateError> {
        if self.next.is_some() || self.previous.is_some() {
            return Ok(None);
        }
        let next = Some(Authority::generate(policy, now)?);
        Ok(Some(Self { next, ..self.clone() }))
    }

    /// The next step of a replacement, when it is time for one: the caller writes the result and renews the Secrets.
    /// `leaves` are the certificates in use that these authorities issued, the operator's own among them.
    ///
    /// # Errors
    /// [`CertificateError`] when the system has no random numbers.
    pub fn advance(
        &self,
        leaves: &[Checked],
        policy: &Policy,
        now: SystemTime,
    ) -> Result<Option<Self>, CertificateError> {
        match (&self.next, &self.previous) {
            (None, None) if self.signing.validity().is_due(now) => self.replace(policy, now),
            (None, None) => Ok(None),
            (Some(next), _) => Ok(self.switch(next, leaves, policy, now)),
            (None, Some(previous)) => {
                let reissued = leaves.iter().all(|leaf| leaf.is_issued_by(&self.signing));
                let gone = reissued && has_spread(leaves, policy, now);
                let done = gone || previous.validity.is_over(now);
                Ok(done.then(|| Self { previous: None, ..self.clone() }))
            }
        }
    }

    fn switch(
        &self,
        next: &Authority,
        leaves: &[Checked],
        policy: &Policy,
        now: SystemTime,
    ) -> Option<Self> {
        let known = next.validity().issued_at() + policy.spread <= now;
        let trusted = leaves.iter().all(|leaf| leaf.trusts(next));
        let ready = known && trusted && has_spread(leaves, policy, now);
        // Nobody accepts what an authority signs that is over: waiting would only make it longer.
        (ready || self.signing.validity().is_over(now)).then(|| Self {
            signing: next.clone(),
            next: None,
            previous: Some(Retired {
                certificate: self.signing.certificate().to_owned(),
                validity: *self.signing.validity(),
            }),
        })
    }
}

/// A change of the bundle comes with a new certificate, so its age is the age of what the pods have.
fn has_spread(leaves: &[Checked], policy: &Policy, now: SystemTime) -> bool {
    leaves.iter().all(|leaf| leaf.validity().issued_at() + policy.spread <= now)
}
