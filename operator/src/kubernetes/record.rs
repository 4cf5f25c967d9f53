//! The last plan in its ConfigMap, written so that of two operators only one can.

use super::SubstrateError;
use crate::apply::ApplyError;
use crate::key::MANAGER;
use crate::render::{Group, PLAN_KEY, Target, plan_config_map};
use crate::watch::Kind;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client};
use planner::plan::Plan;
use std::io::{Read, Write};

/// A plan of the largest models is a few megabytes of JSON; more is not one of ours.
const PLAN_BYTES_MAX: u64 = 64 << 20;

/// Reads and writes one group's plan.
pub struct Record {
    api: Api<ConfigMap>,
    name: String,
    /// What the next write replaces; `None` while there is no record.
    version: Option<String>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Record").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Record {
    pub fn new(client: Client, target: &Target, group: &Group) -> Self {
        let api = Api::namespaced(client, &target.namespace);
        Self { api, name: target.names().plan(group), version: None }
    }

    /// The plan that was recorded last. One that this version cannot read counts as none: agents' own numbers
    /// then say where to go on.
    pub async fn read(&mut self) -> Result<Option<Plan>, SubstrateError> {
        let (version, plan) = self.fetch().await?;
        self.version = version;
        Ok(plan)
    }

    async fn fetch(&self) -> Result<(Option<String>, Option<Plan>), SubstrateError> {
        let found = self.api.get_opt(&self.name).await;
        let found = found.map_err(|error| self.failed(&error))?;
        let version = found.as_ref().and_then(|it| it.metadata.resource_version.clone());
        let Some(bytes) = found.and_then(|it| it.binary_data?.remove(PLAN_KEY)) else {
            return Ok((version, None));
        };
        let plan = unpack(&bytes.0);
        if let Err(error) = &plan {
            tracing::warn!(name = self.name, %error, "the recorded plan cannot be read");
        }
        Ok((version, plan.ok()))
    }

    /// Records a plan after the one that was read or written last here.
    pub async fn write(
        &mut self,
        target: &Target,
        group: &Group,
        plan: &Plan,
    ) -> Result<(), SubstrateError> {
        let packed = pack(plan).map_err(|source| SubstrateError::Pack { source })?;
        let mut map = plan_config_map(target, group, packed);
        map.metadata.resource_version = self.version.clone();
        let post = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let written = match &self.version {
            None => self.api.create(&post, &map).await,
            Some(_) => self.api.replace(&self.name, &post, &map).await,
        };
        match written {
            Ok(written) => {
                self.version = written.metadata.resource_version;
                Ok(())
            }
            // Somebody wrote or deleted it meanwhile: an earlier try of ours that was not answered, or another operator.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                match self.fetch().await? {
                    (version, Some(found)) if found == *plan => {
                        self.version = version;
                        Ok(())
                    }
                    // What was read stays what the next write replaces: it fails until somebody starts anew.
                    (Some(_), found) => Err(SubstrateError::RecordedByAnother {
                        theirs: found.map_or(0, |found| found.generation.0),
                        ours: plan.generation.0,
                    }),
                    (None, _) => {
                        self.version = None;
                        Err(self.lost())
                    }
                }
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &kube::Error) -> SubstrateError {
        SubstrateError::Apply(ApplyError::of(Kind::ConfigMap, &self.name, error))
    }

    fn lost(&self) -> SubstrateError {
        SubstrateError::Apply(ApplyError::Unreachable {
            kind: Kind::ConfigMap,
            name: self.name.clone(),
            cause: "it changed meanwhile; it is written again in a moment".to_owned(),
        })
    }
}

fn pack(plan: &Plan) -> std::io::Result<Vec<u8>> {
    let json = serde_json::to_vec(plan)?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&json)?;
    encoder.finish()
}

fn unpack(bytes: &[u8]) -> std::io::Result<Plan> {
    let mut json = Vec::new();
    GzDecoder::new(bytes).take(PLAN_BYTES_MAX).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}
