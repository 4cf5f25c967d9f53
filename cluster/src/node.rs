//! What runs on a node, as values: containerd, kubelet, kube-proxy, and their configuration files.

use crate::network::{self, CONTROL_PLANE, POD_NETWORK};
use crate::service::Service;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// containerd's socket, inside the machine.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

/// Where images and containers of Kubernetes are in containerd.
pub const CONTAINERD_NAMESPACE: &str = "k8s.io";

/// The image of every pod's sandbox.
pub const PAUSE_IMAGE: &str = "boyle.local/pause:1";

/// A node's files, and what it needs to know of the others.
#[derive(Debug, Clone)]
pub struct Node {
    pub number: u8,
    /// Its own folder.
    pub folder: PathBuf,
    /// Of the control plane.
    pub credentials: PathBuf,
    /// Whose containers these are, among all clusters of this machine: `boyle-NAME`.
    pub cgroup: String,
    pub hyperkube: PathBuf,
    /// The folder of containerd, its shim and ctr.
    pub containerd: PathBuf,
}

/// A node's name, which is also the name of its machine.
pub fn name(number: u8) -> String {
    format!("node{number}")
}

impl Node {
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// What is mounted at /var/lib/kubelet.
    pub fn kubelet_folder(&self) -> PathBuf {
        self.folder.join("kubelet")
    }

    /// Writes the configuration files.
    ///
    /// # Errors
    /// The path that could not be written.
    pub fn prepare(&self) -> Result<(), (PathBuf, io::Error)> {
        let network = self.folder.join("network");
        for folder in [&network, &self.logs(), &self.folder.join("containerd")] {
            fs::create_dir_all(folder).map_err(|source| (folder.clone(), source))?;
        }
        let files = [
            ("containerd.toml", self.containerd_configuration()),
            ("kubelet.yaml", self.kubelet_configuration()),
            ("proxy.yaml", proxy_configuration(self.number, &self.credentials)),
            ("network/pods.conflist", self.pod_network()),
            ("resolv.conf", resolver("default")),
        ];
        for (name, content) in files {
            let path = self.folder.join(name);
            fs::write(&path, content).map_err(|source| (path, source))?;
        }
        Ok(())
    }

    /// Runs containers; the others need its socket when they start.
    pub fn runtime(&self) -> Service {
        Service {
            name: "containerd",
            program: self.containerd.join("containerd"),
            arguments: vec![format!("--config={}", self.folder.join("containerd.toml").display())],
        }
    }

    pub fn kubelet(&self) -> Service {
        let kubeconfig = self.credentials.join(format!("{}.kubeconfig", name(self.number)));
        Service {
            name: "kubelet",
            program: self.hyperkube.clone(),
            arguments: vec![
                "kubelet".to_owned(),
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--config={}", self.folder.join("kubelet.yaml").display()),
                format!("--hostname-override={}", name(self.number)),
                format!("--node-ip={}", network::node_address(self.number)),
            ],
        }
    }

    pub fn proxy(&self) -> Service {
        proxy(&self.hyperkube, &self.folder.join("proxy.yaml"))
    }

    /// A virtual machine may lack the right to lower oom_score_adj: sandboxes die without the restriction.
    fn containerd_configuration(&self) -> String {
        let Self { folder, .. } = self;
        let folder = folder.display();
        format!(
            r#"version = 3
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{folder}/network"
"#
        )
    }

    /// A cable from each pod to the node and routes, no bridge: so a Service whose pods are on the same node needs no
    /// netfilter for bridges. Leases are in /run, which a power-off empties, as it ends the pods.
    fn pod_network(&self) -> String {
        let subnet = network::pod_network(self.number);
        format!(
            r#"{{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {{"type": "ptp", "ipam": {{"type": "host-local", "dataDir": "/run/network-leases",
    "ranges": [[{{"subnet": "{subnet}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}
"#
        )
    }

    /// Several kubelets on one machine cannot each own the tree of cgroups, so it is off, and each has a root of its own.
    fn kubelet_configuration(&self) -> String {
        let (address, number) = (network::node_address(self.number), self.number);
        let (folder, cgroup) = (self.folder.display(), &self.cgroup);
        format!(
            r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
address: {address}
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}/node{number}
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://{SOCKET}
resolvConf: {folder}/resolv.conf
clusterDNS: [{CONTROL_PLANE}]
clusterDomain: cluster.local
nodeStatusUpdateFrequency: 2s
nodeStatusReportFrequency: 30s
nodeLeaseDurationSeconds: 8
evictionHard: {{imagefs.available: "1%", nodefs.available: "1%", memory.available: "100Mi"}}
imageGCHighThresholdPercent: 100
serializeImagePulls: false
"#
        )
    }
}

/// kube-proxy, on a node or on the control plane.
pub fn proxy(hyperkube: &Path, configuration: &Path) -> Service {
    Service {
        name: "proxy",
        program: hyperkube.to_path_buf(),
        arguments: vec!["proxy".to_owned(), format!("--config={}", configuration.display())],
    }
}

/// kube-proxy needs a node's name to start at once; the control plane, which is no node, speaks for the first.
pub fn proxy_configuration(number: u8, credentials: &Path) -> String {
    let kubeconfig = credentials.join("kube-proxy.kubeconfig");
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {}}}
mode: iptables
clusterCIDR: {POD_NETWORK}
hostnameOverride: node{number}
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
",
        kubeconfig.display()
    )
}

/// A resolv.conf for somebody in a namespace of the cluster.
pub fn resolver(namespace: &str) -> String {
    format!(
        "nameserver {CONTROL_PLANE}\nsearch {namespace}.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )
}

/// CoreDNS's configuration.
pub fn names_configuration(kubeconfig: &Path) -> String {
    format!(
        ".:53 {{
  bind {CONTROL_PLANE}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {}
    pods insecure
    ttl 5
  }}
  cache 5
  loadbalance
}}
",
        kubeconfig.display()
    )
}
