//! One pod as a process of this machine, with an address of its own on loopback.

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Between looks at a process and its readiness.
const BEAT: Duration = Duration::from_millis(100);
/// First pause after an exit; it doubles.
const BACKOFF: Duration = Duration::from_millis(500);

/// Where pods find the program and keep their files.
#[derive(Clone, Debug)]
pub struct Machine {
    pub boyle: PathBuf,
    pub folder: PathBuf,
}

/// What the kubelet tells a pod's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Run,
    /// The pod was deleted: end in good order and remove it.
    End,
    /// Its machine died: the process goes, the pod object stays as it is.
    Die,
}

/// What a readiness probe says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Ready,
    Unready,
}

/// Runs one pod to its end.
pub async fn run(client: Client, machine: Machine, pod: Pod, mut orders: watch::Receiver<Order>) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let address = next_address();
    let mut restarts = 0;
    loop {
        let order = *orders.borrow();
        if order != Order::Run {
            return finish(&api, &pod, order, None).await;
        }
        let mut child = match start(&machine, &pod, address).await {
            Ok(child) => child,
            Err(error) => panic!("start {}: {error}", pod.name_any()),
        };
        let mut ready = None;
        let code = loop {
            tokio::select! {
                order = ordered(&mut orders) => return finish(&api, &pod, order, Some(child)).await,
                ended = child.wait() => break ended.map_or(-1, |status| status.code().unwrap_or(137)),
                () = tokio::time::sleep(BEAT) => {
                    let now = probe(&pod, address).await;
                    if ready != Some(now) {
                        ready = Some(now);
                        report(&api, &pod, &running(&pod, address, now, restarts)).await;
                    }
                }
            }
        };
        restarts += 1;
        report(&api, &pod, &crashed(&pod, address, code, restarts)).await;
        tokio::select! {
            _ = ordered(&mut orders) => {}
            () = tokio::time::sleep(BACKOFF * 2_u32.pow(restarts.min(4))) => {}
        }
    }
}

/// The first order that is not to run.
async fn ordered(orders: &mut watch::Receiver<Order>) -> Order {
    match orders.wait_for(|order| *order != Order::Run).await {
        Ok(order) => *order,
        Err(_) => Order::Die,
    }
}

async fn finish(api: &Api<Pod>, pod: &Pod, order: Order, child: Option<Child>) {
    if let Some(mut child) = child {
        if order == Order::End {
            terminate(&child);
            let _ = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
        }
        let _ = child.kill().await;
    }
    if order == Order::End {
        let parameters = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        let _ = api.delete(&pod.name_any(), &parameters).await;
    }
}

fn terminate(child: &Child) {
    if let Some(pid) = child.id() {
        let _ = std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status();
    }
}

/// 127.0.0.0/8 is all loopback: every pod of every test gets an address that no other has.
fn next_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // Hosts 1 to 254 of networks 127.16.0 to 127.255.255, begun somewhere else by each process.
    let (hosts, networks) = (254, 240 << 8);
    let n = std::process::id().wrapping_mul(257).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let [_, _, b, c] = (n / hosts % networks).to_be_bytes();
    let [_, _, _, d] = (1 + n % hosts).to_be_bytes();
    Ipv4Addr::new(127, 16 + b, c, d)
}

fn container(pod: &Pod) -> &Container {
    &pod.spec.as_ref().expect("a pod has a spec").containers[0]
}

async fn start(machine: &Machine, pod: &Pod, address: Ipv4Addr) -> std::io::Result<Child> {
    let container = container(pod);
    let folder = machine.folder.join(pod.uid().unwrap_or_default());
    tokio::fs::create_dir_all(&folder).await?;
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(machine.folder.join(format!("{}.log", pod.name_any())))?;
    let mut command = Command::new(&machine.boyle);
    command
        .args(container.args.iter().flatten())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(variable, pod, address, &folder) {
            command.env(&variable.name, value);
        }
    }
    command.spawn()
}

/// A variable as the kubelet would set it, with addresses and folders of this machine.
fn value(variable: &EnvVar, pod: &Pod, address: Ipv4Addr, folder: &Path) -> Option<String> {
    if variable.name == "BOYLE_TLS_DIRECTORY" {
        return None;
    }
    if let Some(value) = &variable.value {
        let value = value.replace("0.0.0.0", &address.to_string());
        return Some(value.replace("/var/lib/boyle", &folder.display().to_string()));
    }
    let from = variable.value_from.as_ref()?;
    if from.field_ref.as_ref().is_some_and(|field| field.field_path == "metadata.name") {
        return Some(pod.name_any());
    }
    let limits = container(pod).resources.as_ref()?.limits.as_ref()?;
    let limit = &limits.get(from.resource_field_ref.as_ref()?.resource.strip_prefix("limits.")?)?.0;
    Some(limit.strip_suffix("Mi").map_or(limit.clone(), |mebibytes| {
        (mebibytes.parse::<u64>().expect("a number of Mi") << 20).to_string()
    }))
}

/// Whether the container's readiness probe passes.
async fn probe(pod: &Pod, address: Ipv4Addr) -> Readiness {
    let probe = container(pod).readiness_probe.as_ref().and_then(|probe| probe.http_get.as_ref());
    let Some(get) = probe else { return Readiness::Ready };
    let port = match get.port {
        k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(port) => port,
        k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String(_) => {
            return Readiness::Unready;
        }
    };
    let path = get.path.as_deref().unwrap_or("/");
    let asked = async {
        let port = u16::try_from(port).unwrap_or(0);
        let mut stream = TcpStream::connect((address, port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer.ends_with(b"200"))
    };
    match tokio::time::timeout(Duration::from_secs(2), asked).await {
        Ok(Ok(true)) => Readiness::Ready,
        Ok(Ok(false) | Err(_)) | Err(_) => Readiness::Unready,
    }
}

fn running(pod: &Pod, address: Ipv4Addr, ready: Readiness, restarts: u32) -> serde_json::Value {
    let state = json!({"running": {"startedAt": Timestamp::now()}});
    status(pod, address, (ready, restarts), (state, json!({})))
}

fn crashed(pod: &Pod, address: Ipv4Addr, code: i32, restarts: u32) -> serde_json::Value {
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
    let last = json!({"terminated": {"exitCode": code, "reason": "Error", "message": "it ended"}});
    status(pod, address, (Readiness::Unready, restarts), (waiting, last))
}

fn status(
    pod: &Pod,
    address: Ipv4Addr,
    (ready, restarts): (Readiness, u32),
    (state, last): (serde_json::Value, serde_json::Value),
) -> serde_json::Value {
    let container = container(pod);
    let is_ready = ready == Readiness::Ready;
    let truth = if is_ready { "True" } else { "False" };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": Timestamp::now()});
    json!({"status": {
        "phase": "Running",
        "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [
            condition("PodScheduled", "True"), condition("Initialized", "True"),
            condition("ContainersReady", truth), condition("Ready", truth),
        ],
        "containerStatuses": [{
            "name": container.name, "image": container.image, "imageID": "", "ready": is_ready,
            "restartCount": restarts, "state": state, "lastState": last,
        }],
    }})
}

async fn report(api: &Api<Pod>, pod: &Pod, status: &serde_json::Value) {
    let _ = api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await;
}
