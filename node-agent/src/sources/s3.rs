//! `s3://`: objects below a prefix of a bucket.

use super::{ByteStream, Listing, Remote, RemoteFile, SourceError, is_wanted};
use crate::limits::{SOURCE_CONNECT_TIMEOUT, SOURCE_READ_TIMEOUT};
use futures::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, GetRange, ObjectMeta, ObjectStore as _,
    RetryConfig,
};
use sha2::{Digest as _, Sha256};
use std::ops::Range;

/// Where requests are signed for when nobody says: most stores that are not Amazon's take any.
const REGION: &str = "us-east-1";

/// A folder in a bucket.
#[derive(Debug)]
pub struct Bucket {
    store: AmazonS3,
    /// `s3://bucket/path`, for messages.
    uri: String,
    prefix: String,
}

impl Bucket {
    /// Credentials and region come from the environment, as other tools for S3 read them (`AWS_ACCESS_KEY_ID`, …);
    /// without any, requests are not signed. `endpoint` is for stores that are not Amazon's.
    ///
    /// # Errors
    /// [`SourceError::Endpoint`] for settings that cannot be.
    pub fn new(endpoint: Option<&str>, bucket: &str, prefix: &str) -> Result<Self, SourceError> {
        super::choose_tls_provider();
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        if std::env::var_os("AWS_REGION").is_none()
            && std::env::var_os("AWS_DEFAULT_REGION").is_none()
        {
            builder = builder.with_region(REGION);
        }
        if !CREDENTIALS.iter().any(|variable| std::env::var_os(variable).is_some()) {
            builder = builder.with_skip_signature(true);
        }
        let endpoint = endpoint.map(|endpoint| endpoint.trim_end_matches('/'));
        if let Some(endpoint) = endpoint {
            builder = builder
                .with_endpoint(endpoint)
                // A name for each bucket is more than a private store's DNS has.
                .with_virtual_hosted_style_request(false);
        }
        let options = ClientOptions::new()
            .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
            .with_connect_timeout(SOURCE_CONNECT_TIMEOUT)
            .with_read_timeout(SOURCE_READ_TIMEOUT)
            .with_timeout_disabled();
        // Whoever reads tries again by itself, from where the stream broke.
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 0,
            retry_timeout: SOURCE_READ_TIMEOUT,
        };
        let store = builder.with_client_options(options).with_retry(retry).build();
        let store = store.map_err(|error| SourceError::Endpoint {
            endpoint: endpoint.unwrap_or("the public S3 endpoint").to_owned(),
            reason: crate::describe(&error),
        })?;
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Self { store, uri: format!("s3://{bucket}/{prefix}"), prefix })
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    fn fault(&self, what: &str, error: &Error) -> SourceError {
        let what = what.to_owned();
        let reason = crate::describe(error);
        // A listing that is refused has no error of its own in the library, only the answer's status in the text.
        let says = |status: &str| reason.contains(&format!("status code: {status}"));
        match error {
            Error::NotFound { .. } => self.not_found(what),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                SourceError::Forbidden { what, reason, remedy: CREDENTIALS_REMEDY.to_owned() }
            }
            Error::InvalidPath { .. } | Error::NotSupported { .. } => {
                SourceError::Protocol { what, reason }
            }
            _ if says("401") || says("403") => {
                SourceError::Forbidden { what, reason, remedy: CREDENTIALS_REMEDY.to_owned() }
            }
            _ if says("404") => self.not_found(what),
            // The rest is not told apart by the library; a store that is away is the likely one.
            _ => SourceError::Transient { what, reason },
        }
    }

    fn not_found(&self, what: String) -> SourceError {
        let remedy = format!("correct the bucket and path in spec.model.source ({})", self.uri);
        SourceError::NotFound { what, remedy }
    }
}

/// What a refusal is mended with.
const CREDENTIALS_REMEDY: &str = "put AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY that may read it into the Secret \
                                  that spec.model.secretName names, and restart the agents";

/// Any of these says how to sign.
const CREDENTIALS: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

#[tonic::async_trait]
impl Remote for Bucket {
    async fn list(&self) -> Result<Listing, SourceError> {
        let prefix = Path::from(self.prefix.as_str());
        let found = self.store.list_with_delimiter(Some(&prefix)).await;
        let objects = found.map_err(|error| self.fault(&self.uri, &error))?.objects;
        let mut files: Vec<RemoteFile> = objects.into_iter().filter_map(file_of).collect();
        if files.is_empty() {
            return Err(self.not_found(self.uri.clone()));
        }
        if !files.iter().any(|file| file.name.ends_with(".safetensors")) {
            return Err(SourceError::NoWeights { what: self.uri.clone() });
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Listing { revision: digest(&files), files })
    }

    async fn read(
        &self,
        _: &str,
        file: &RemoteFile,
        range: Range<u64>,
    ) -> Result<ByteStream, SourceError> {
        let what = format!("{}/{}", self.uri, file.name);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: (!file.tag.is_empty()).then(|| file.tag.clone()),
            ..GetOptions::default()
        };
        let changed = |now: String| SourceError::Changed {
            file: what.clone(),
            was: format!("{} of {} bytes", file.tag, file.bytes),
            now,
        };
        let result = match self.store.get_opts(&self.path(&file.name), options).await {
            Ok(result) => result,
            Err(Error::Precondition { .. }) => return Err(changed("another ETag".to_owned())),
            Err(error) => return Err(self.fault(&what, &error)),
        };
        let now = result.meta.e_tag.clone().unwrap_or_default();
        let same = now.trim_matches('"') == file.tag.trim_matches('"');
        if result.meta.size != file.bytes || !same {
            return Err(changed(format!("{now} of {} bytes", result.meta.size)));
        }
        let broken = move |error: Error| {
            let reason = crate::describe(&error);
            SourceError::Transient { what: what.clone(), reason }
        };
        Ok(Box::pin(result.into_stream().map_err(broken)))
    }
}

fn file_of(object: ObjectMeta) -> Option<RemoteFile> {
    let name = object.location.filename()?.to_owned();
    let tag = object.e_tag.unwrap_or_default();
    is_wanted(&name).then_some(RemoteFile { name, bytes: object.size, tag, sha256: None })
}

/// What stands for a revision: a digest over names and ETags.
fn digest(files: &[RemoteFile]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{}\n{}\n{}\n", file.name, file.bytes, file.tag));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
