//! From when until when a certificate holds, and when it is time for the next one. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;

/// A certificate holds from a little before it is made, for machines whose clocks are late.
pub const BACKDATE: Duration = Duration::from_secs(10 * 60);

/// Both ends; certificates count in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl Validity {
    /// Of a certificate that is made now.
    pub fn new(now: SystemTime, life: Duration) -> Self {
        Self { not_before: now - BACKDATE, not_after: now + life }
    }

    pub fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
        }
    }

    /// When it was made.
    pub fn issued_at(&self) -> SystemTime {
        self.not_before + BACKDATE
    }

    /// Two thirds of its life: a third is left for whatever goes wrong.
    pub fn renew_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life * 2 / 3
    }

    /// Neither yet nor any more.
    pub fn is_over(&self, now: SystemTime) -> bool {
        now > self.not_after
    }

    pub fn is_early(&self, now: SystemTime) -> bool {
        now < self.not_before
    }

    /// Whether another one should be made: it is old, or the clock that it was made by was wrong.
    pub fn is_due(&self, now: SystemTime) -> bool {
        self.is_early(now) || now >= self.renew_at()
    }
}

/// Seconds since 1970; a certificate from before that is as old.
fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
