//! What somebody sees who listens on the wire between two nodes.

use crate::scenario::Component;
use crate::scenario::{Length, Needs, Scenario, Scene};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub const SCENARIO: Scenario = Scenario {
    name: "mtls",
    summary: "prompts do not cross the network in the clear, and strangers are refused",
    needs: Needs::Machines,
    length: Length::Short,
    play: |scene| Box::pin(play(scene)),
};

/// A question that no other bytes can be mistaken for.
const QUESTION: &str = "What is 1234567 + 7654321?";
/// For tcpdump to begin, and to write what it caught.
const CAPTURE_PAUSE: Duration = Duration::from_secs(2);
/// For a stranger to be sent away.
const STRANGER_WAIT: Duration = Duration::from_secs(10);
/// Less would be no capture of a conversation.
const BYTES_MIN: usize = 10_000;

async fn play(scene: &Scene) -> Result<()> {
    // One agent of three is asked by a router elsewhere, and asks its peers for experts.
    let deployment = scene.deployed().await?;
    let folder = tempfile::tempdir()?;
    let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
    let between = capture(&inside, "tcp port 7070 or tcp port 7072")?;
    let client = capture(&outside, "tcp port 8080 or tcp port 80")?;
    tokio::time::sleep(CAPTURE_PAUSE).await;
    for _ in 0..6 {
        deployment.ask(QUESTION).await?;
    }
    tokio::time::sleep(CAPTURE_PAUSE).await;
    end(between).await?;
    end(client).await?;
    let (between, client) = (std::fs::read(inside)?, std::fs::read(outside)?);
    println!("{} bytes between nodes, {} from the client", between.len(), client.len());
    ensure!(holds(&client, QUESTION), "the capture is blind: the client's own question is missing");
    ensure!(between.len() > BYTES_MIN, "only {} bytes passed between the nodes", between.len());
    ensure!(!holds(&between, QUESTION), "the question crossed the network in the clear");
    ensure!(!holds(&between, "7654321"), "a part of the question crossed in the clear");
    for pod in deployment.pods(Component::Agent).await? {
        in_the_clear(&pod.address).await.with_context(|| pod.name.clone())?;
        without_certificate(&pod.address).await.with_context(|| pod.name.clone())?;
    }
    Ok(())
}

/// On all wires of the control plane, through which what nodes say to each other passes.
fn capture(file: &Path, filter: &str) -> Result<Child> {
    Command::new("tcpdump")
        .args(["-i", "any", "-U", "-s", "0", "-w"])
        .arg(file)
        .args(["-Z", "root"])
        .args(filter.split(' '))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("tcpdump is needed (Debian: apt-get install tcpdump)")
}

async fn end(mut capture: Child) -> Result<()> {
    crate::processes::interrupt(capture.id().context("tcpdump ended by itself")?)?;
    capture.wait().await?;
    Ok(())
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Somebody who speaks HTTP/2 without TLS is not spoken to.
async fn in_the_clear(address: &str) -> Result<()> {
    const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// First byte of a TLS alert.
    const ALERT: u8 = 0x15;
    let mut stream = TcpStream::connect((address, 7070)).await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    stream.write_all(EMPTY_SETTINGS).await?;
    let mut answer = Vec::new();
    // It may also be a reset.
    let read = timeout(STRANGER_WAIT, stream.read_to_end(&mut answer)).await;
    ensure!(read.is_ok(), "the connection is kept open");
    ensure!(answer.first().is_none_or(|first| *first == ALERT), "it answered {answer:?}");
    Ok(())
}

/// Somebody who speaks TLS without a certificate of the deployment is not, either.
async fn without_certificate(address: &str) -> Result<()> {
    crate::client::install_crypto();
    let builder = reqwest::Client::builder().timeout(STRANGER_WAIT).no_proxy();
    let client = builder.tls_danger_accept_invalid_certs(true).build()?;
    let url = format!("https://{address}:7070/boyle.v1.Agent/GetStatus");
    let answer = client.post(url).body(vec![0_u8; 5]).send().await;
    ensure!(answer.is_err(), "a stranger was answered: {answer:?}");
    Ok(())
}
