//! Wire assignment → [`Assignment`], parsed once: inside, every name is known and every number within bounds.

use crate::library::Origin;
use crate::limits::{
    CONTEXT_LENGTH_MAX, EXPERT_DEADLINE_MAX_MS, NAME_BYTES_MAX, PATH_BYTES_MAX, PEERS_MAX,
    PLACEMENTS_MAX, SEQUENCES_MAX, STEP_TOKENS_MAX, URI_BYTES_MAX,
};
use engine::exchange::{PeerId, Placement};
use engine::speculation::DRAFT_TOKENS_LIMIT;
use model::executor::ExpertAddress;
use model::kernels::KernelPath;
use proto::v1;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// One agent's share of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub generation: u64,
    pub peers: BTreeMap<PeerId, String>,
    pub placement: Placement,
    pub binding: Binding,
    /// Of the model that the plan was made for; empty: any files will do.
    pub fingerprint: String,
}

/// What a process is bound to: another one of these needs another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub deployment: String,
    pub model: ModelPlace,
    pub settings: Settings,
}

/// Where the model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelPlace {
    /// In a folder that somebody else has filled.
    Directory(PathBuf),
    /// Wherever this agent keeps what it fetches from here.
    Source(Origin),
}

/// Bounds of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub context_length: usize,
    pub step_tokens_max: usize,
    pub sequences_max: usize,
    pub queue_max: usize,
    pub kv_cache_bytes: u64,
    pub expert_deadline: Duration,
    pub kernel_path: KernelPath,
    /// 0: no drafts.
    pub draft_tokens_max: usize,
}

/// An assignment that can never work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    #[error("{field} is missing")]
    Missing { field: String },
    #[error("{field}: {reason}")]
    Invalid { field: String, reason: String },
    #[error("agent_id is {given:?} and this agent is {own:?}; send it to that agent")]
    OtherAgent { given: String, own: String },
}

impl Assignment {
    /// Experts that this agent holds.
    pub fn own_experts(&self) -> BTreeSet<ExpertAddress> {
        let local = &self.placement.local;
        let held = |copies: &Vec<PeerId>| copies.contains(local);
        self.placement.copies.iter().filter(|(_, c)| held(c)).map(|(address, _)| *address).collect()
    }

    /// Whether some expert would be lost to its peers without this agent.
    pub fn holds_an_only_copy(&self) -> bool {
        let local = std::slice::from_ref(&self.placement.local);
        self.peers.len() > 1 && self.placement.copies.values().any(|copies| copies == local)
    }

    /// Parses what `Assign` brings for the agent `own`.
    ///
    /// # Errors
    /// [`AssignmentError`], which names the field.
    pub fn parse(wire: &v1::Assignment, own: &str) -> Result<Self, AssignmentError> {
        // No `..`: a new field must not be forgotten here.
        let v1::Assignment { generation, deployment, agent_id, model, peers, placement, settings } =
            wire;
        if agent_id != own {
            return Err(AssignmentError::OtherAgent { given: agent_id.clone(), own: own.into() });
        }
        if *generation == 0 {
            return Err(invalid("generation", "is 0; generations count from 1"));
        }
        name("deployment", deployment)?;
        let local = PeerId(own.into());
        let peers = parse_peers(peers, &local)?;
        let copies = parse_placement(placement, &peers)?;
        let binding = Binding {
            deployment: deployment.clone(),
            model: parse_place(model.as_ref())?,
            settings: parse_settings(settings.as_ref())?,
        };
        let placement = Placement { generation: *generation, local, copies };
        let fingerprint = model.as_ref().map(|model| model.fingerprint.clone()).unwrap_or_default();
        at_most("model.fingerprint", &fingerprint, NAME_BYTES_MAX)?;
        Ok(Self { generation: *generation, peers, placement, binding, fingerprint })
    }
}

fn invalid(field: &str, reason: impl Into<String>) -> AssignmentError {
    AssignmentError::Invalid { field: field.into(), reason: reason.into() }
}

fn name(field: &str, value: &str) -> Result<(), AssignmentError> {
    if value.is_empty() {
        return Err(AssignmentError::Missing { field: field.into() });
    }
    at_most(field, value, NAME_BYTES_MAX)
}

fn parse_place(model: Option<&v1::ModelSource>) -> Result<ModelPlace, AssignmentError> {
    let missing = || AssignmentError::Missing { field: "model.directory".into() };
    // No `..`: a new field must not be forgotten here.
    let v1::ModelSource { directory, uri, revision, fingerprint: _ } = model.ok_or_else(missing)?;
    at_most("model.directory", directory, PATH_BYTES_MAX)?;
    at_most("model.uri", uri, URI_BYTES_MAX)?;
    at_most("model.revision", revision, URI_BYTES_MAX)?;
    match (directory.is_empty(), uri.is_empty()) {
        (true, true) => Err(missing()),
        (false, true) => Ok(ModelPlace::Directory(directory.into())),
        (true, false) => Ok(ModelPlace::Source(Origin::new(uri, revision))),
        (false, false) => Err(invalid("model.uri", "is given beside model.directory; give one")),
    }
}

fn at_most(field: &str, value: &str, max: usize) -> Result<(), AssignmentError> {
    if value.len() > max {
        return Err(invalid(field, format!("has {} bytes, more than {max}", value.len())));
    }
    Ok(())
}

fn parse_peers(
    wire: &[v1::Peer],
    local: &PeerId,
) -> Result<BTreeMap<PeerId, String>, AssignmentError> {
    if wire.len() > PEERS_MAX {
        let reason = format!("has {} entries, more than {PEERS_MAX}", wire.len());
        return Err(invalid("peers", reason));
    }
    let mut peers = BTreeMap::new();
    for (index, v1::Peer { agent_id, address }) in wire.iter().enumerate() {
        name(&format!("peers[{index}].agent_id"), agent_id)?;
        check_address(&format!("peers[{index}].address"), address)?;
        if peers.insert(PeerId(agent_id.clone()), address.clone()).is_some() {
            let reason = format!("{agent_id:?} is listed twice");
            return Err(invalid(&format!("peers[{index}].agent_id"), reason));
        }
    }
    if !peers.contains_key(local) {
        return Err(invalid("peers", format!("this agent, {:?}, is not among them", local.0)));
    }
    Ok(peers)
}

fn check_address(field: &str, address: &str) -> Result<(), AssignmentError> {
    name(field, address)?;
    let port = address
        .rsplit_once(':')
        .and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok()).flatten());
    match port {
        Some(port)
            if port > 0 && tonic::transport::Endpoint::new(format!("http://{address}")).is_ok() =>
        {
            Ok(())
        }
        _ => Err(invalid(field, format!("{address:?} is not host:port"))),
    }
}

fn parse_placement(
    wire: &[v1::ExpertPlacement],
    peers: &BTreeMap<PeerId, String>,
) -> Result<BTreeMap<ExpertAddress, Vec<PeerId>>, AssignmentError> {
    if wire.len() > PLACEMENTS_MAX {
        let reason = format!("has {} entries, more than {PLACEMENTS_MAX}", wire.len());
        return Err(invalid("placement", reason));
    }
    let mut copies = BTreeMap::new();
    for (index, entry) in wire.iter().enumerate() {
        let v1::ExpertPlacement { layer, expert, agent_ids } = entry;
        let field = format!("placement[{index}]");
        let holders = parse_holders(&format!("{field}.agent_ids"), agent_ids, peers)?;
        let address = ExpertAddress { layer: *layer, expert: *expert };
        if copies.insert(address, holders).is_some() {
            let reason = format!("expert {expert} of layer {layer} is listed twice");
            return Err(invalid(&field, reason));
        }
    }
    Ok(copies)
}

fn parse_holders(
    field: &str,
    agent_ids: &[String],
    peers: &BTreeMap<PeerId, String>,
) -> Result<Vec<PeerId>, AssignmentError> {
    if agent_ids.is_empty() {
        return Err(AssignmentError::Missing { field: field.into() });
    }
    let mut holders = Vec::with_capacity(agent_ids.len().min(peers.len()));
    for agent_id in agent_ids {
        let holder = PeerId(agent_id.clone());
        if !peers.contains_key(&holder) {
            return Err(invalid(field, format!("{agent_id:?} is not among the peers")));
        }
        if holders.contains(&holder) {
            return Err(invalid(field, format!("{agent_id:?} is listed twice")));
        }
        holders.push(holder);
    }
    Ok(holders)
}

fn parse_settings(wire: Option<&v1::EngineSettings>) -> Result<Settings, AssignmentError> {
    let wire = wire.ok_or_else(|| AssignmentError::Missing { field: "settings".into() })?;
    let v1::EngineSettings {
        context_length,
        step_tokens_max,
        sequences_max,
        queue_max,
        kv_cache_bytes,
        expert_deadline_ms,
        kernel_path,
        draft_tokens_max,
    } = wire;
    if *draft_tokens_max as usize > DRAFT_TOKENS_LIMIT {
        let reason = format!("is {draft_tokens_max} and must be at most {DRAFT_TOKENS_LIMIT}");
        return Err(invalid("settings.draft_tokens_max", reason));
    }
    if *kv_cache_bytes == 0 {
        return Err(invalid("settings.kv_cache_bytes", "is 0; give the cache some memory"));
    }
    let deadline =
        within("settings.expert_deadline_ms", *expert_deadline_ms, EXPERT_DEADLINE_MAX_MS)?;
    Ok(Settings {
        context_length: within("settings.context_length", *context_length, CONTEXT_LENGTH_MAX)?,
        step_tokens_max: within("settings.step_tokens_max", *step_tokens_max, STEP_TOKENS_MAX)?,
        sequences_max: within("settings.sequences_max", *sequences_max, SEQUENCES_MAX)?,
        queue_max: within("settings.queue_max", *queue_max, SEQUENCES_MAX)?,
        kv_cache_bytes: *kv_cache_bytes,
        expert_deadline: Duration::from_millis(deadline as u64),
        kernel_path: parse_kernel_path(kernel_path)?,
        draft_tokens_max: *draft_tokens_max as usize,
    })
}

fn within(field: &str, value: u32, max: u32) -> Result<usize, AssignmentError> {
    if (1..=max).contains(&value) {
        Ok(value as usize)
    } else {
        Err(invalid(field, format!("is {value} and must be between 1 and {max}")))
    }
}

fn parse_kernel_path(text: &str) -> Result<KernelPath, AssignmentError> {
    if text == "auto" {
        return Ok(KernelPath::best());
    }
    text.parse().map_err(|error| invalid("settings.kernel_path", format!("{error}")))
}

#[cfg(test)]
mod tests;
