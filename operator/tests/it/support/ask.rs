//! Asking a deployment's router as a client does.

use super::deployment::NAMESPACE;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Pods of one component that are not being deleted, with their addresses, by name.
pub async fn pods(client: &Client, deployment: &str, component: &str) -> Vec<(String, Pod)> {
    let selector =
        format!("boyle.dev/model-deployment={deployment},app.kubernetes.io/component={component}");
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let all = api.list(&ListParams::default().labels(&selector)).await.expect("a list of pods");
    let living = all.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let mut pods: Vec<(String, Pod)> = living.map(|pod| (pod.name_any(), pod)).collect();
    pods.sort_by(|(a, _), (b, _)| a.cmp(b));
    pods
}

/// An answer from the deployment, or why there is none.
pub async fn ask(client: &Client, deployment: &str) -> Result<String, String> {
    let pods = pods(client, deployment, "router").await;
    let addresses = pods.iter().filter_map(|(_, pod)| pod.status.as_ref()?.pod_ip.clone());
    let mut last = "there is no router".to_owned();
    for address in addresses {
        match post(&address, deployment).await {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn post(address: &str, model: &str) -> Result<String, String> {
    let body = json!({"model": model, "temperature": 0, "max_tokens": 8,
        "messages": [{"role": "user", "content": "What is 1 + 2?"}]});
    let body = body.to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: router\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let asked = async {
        let mut stream = TcpStream::connect((address, 8080)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = asked.await.map_err(|error| format!("{address}: {error}"))?;
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(answer) }
}
