//! `boyle chat`: one question, or a conversation, with what runs or with the embedded model started for it.

mod client;
mod screen;

use crate::arguments::ChatArguments;
use crate::describe;
use crate::local::LocalDeployment;
use crate::progress::{Progress, until_available};
use crate::resolve::Resolved;
use crate::signals::{Ending, Signals};
use crate::state::{DeploymentDirectory, Holder, Running, StateRoot};
use anyhow::{Context as _, bail};
use client::{ChatClient, ClientError, Message};
use rustyline::error::ReadlineError;
use screen::Screen;
use std::process::ExitCode;
use std::time::Duration;
use substrate::{DeploymentStatus, Phase};
use tokio::sync::{mpsc, oneshot};

/// How long somebody else's deployment may take to come up before we give up on it.
const FOREIGN_START_MAX: Duration = Duration::from_secs(600);
/// How often its status file is looked at meanwhile.
const FOREIGN_START_LOOK: Duration = Duration::from_millis(50);

/// Shortest context, in tokens, that holds more than one question with its reasoning.
const CONVERSATION_CONTEXT_MIN: u32 = 1024;

/// Chats until the question is answered or the person leaves.
///
/// # Errors
/// When nothing can be asked, or the one question is not answered.
pub async fn run(arguments: ChatArguments) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let talk = Talk { question: arguments.question.clone(), temperature: arguments.temperature };
    if let Some(url) = &arguments.url {
        return talk.with(url, &mut signals).await;
    }
    let root = StateRoot::resolve(arguments.deployment.state.state_directory.as_deref())?;
    if let Some(running) = running(&root, &arguments)? {
        let url = tokio::select! {
            url = url_of(&running) => url?,
            ending = signals.next() => return Ok(ending.exit_code()),
        };
        return talk.with(&url, &mut signals).await;
    }
    with_own_deployment(&arguments, talk, &mut signals).await
}

/// What runs here already: the only one, or the one that the file names.
fn running(
    root: &StateRoot,
    arguments: &ChatArguments,
) -> anyhow::Result<Option<DeploymentDirectory>> {
    if let Some(file) = &arguments.file {
        let named = Resolved::new(Some(file), &arguments.deployment)?.directory;
        return Ok(named.running()?.map(|_| named));
    }
    let mut running = Vec::new();
    for directory in root.deployments()? {
        if directory.running()?.is_some() {
            running.push(directory);
        }
    }
    match running.len() {
        0 | 1 => Ok(running.pop()),
        _ => {
            let names: Vec<&str> = running.iter().map(DeploymentDirectory::name).collect();
            bail!("several deployments run ({}); choose one with --url", names.join(", "))
        }
    }
}

/// Waits until somebody else's deployment takes requests.
async fn url_of(directory: &DeploymentDirectory) -> anyhow::Result<String> {
    let name = directory.name();
    let available = async {
        loop {
            let status: Option<DeploymentStatus> = directory.read("status.json")?;
            let serving =
                status.filter(|status| matches!(status.phase, Phase::Available | Phase::Degraded));
            if let Some(url) = serving.and_then(|status| status.url) {
                return anyhow::Ok(url);
            }
            match directory.running()? {
                None => bail!("{name} ended while it was starting; try again"),
                Some(Holder::Known(Running { .. }) | Holder::Unknown) => {}
            }
            tokio::time::sleep(FOREIGN_START_LOOK).await;
        }
    };
    let waited = tokio::time::timeout(FOREIGN_START_MAX, available).await;
    waited.with_context(|| format!("{name} does not come up; look at it with `boyle status`"))?
}

async fn with_own_deployment(
    arguments: &ChatArguments,
    talk: Talk,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let mut progress = Progress::new();
    let resolved = Resolved::new(arguments.file.as_deref(), &arguments.deployment)?;
    let lock = LocalDeployment::lock(&resolved)?;
    progress.step(&format!("starting {} for this chat", resolved.directory.name()));
    let mut local = LocalDeployment::start(resolved, lock, 0).await?;
    let mut statuses = local.statuses();
    let work = async {
        let url = tokio::select! {
            url = until_available(&mut statuses, &mut progress) => url?,
            ending = signals.next() => return Ok(ending.exit_code()),
        };
        talk.with(&url, signals).await
    };
    let result = local.drive(work).await;
    progress.finish();
    tokio::select! {
        stopped = local.stop() => stopped?,
        ending = signals.next() => return Ok(ending.exit_code()),
    }
    result
}

/// What is to be talked about.
struct Talk {
    question: Option<String>,
    temperature: f32,
}

/// What a question is asked with.
#[derive(Clone, Copy, Debug)]
enum Recall {
    /// Everything said before.
    Conversation,
    /// Nothing: a model with so short a context has not learnt to take earlier turns into account either.
    Nothing { context_length: u32 },
}

impl Recall {
    fn of(context_length: Option<u32>) -> Self {
        match context_length {
            Some(context_length) if context_length < CONVERSATION_CONTEXT_MIN => {
                Self::Nothing { context_length }
            }
            Some(_) | None => Self::Conversation,
        }
    }
}

/// How one question ended.
enum Turn {
    Answered,
    Interrupted(Ending),
}

impl Talk {
    async fn with(self, url: &str, signals: &mut Signals) -> anyhow::Result<ExitCode> {
        let client = ChatClient::connect(url, self.temperature).await?;
        let mut conversation = Conversation {
            recall: Recall::of(client.context_length()),
            client,
            messages: Vec::new(),
            screen: Screen::new(),
        };
        match self.question {
            Some(question) => match conversation.ask(question, signals).await? {
                Turn::Answered => Ok(ExitCode::SUCCESS),
                Turn::Interrupted(ending) => Ok(ending.exit_code()),
            },
            None => conversation.converse(signals).await,
        }
    }
}

struct Conversation {
    client: ChatClient,
    recall: Recall,
    messages: Vec<Message>,
    screen: Screen,
}

impl Conversation {
    /// Questions from the prompt until the person leaves.
    async fn converse(&mut self, signals: &mut Signals) -> anyhow::Result<ExitCode> {
        let model = self.client.model();
        match self.recall {
            Recall::Conversation => {
                note_line!("Talking to {model}. /new starts over, Ctrl-D leaves.");
            }
            Recall::Nothing { context_length } => note_line!(
                "Talking to {model}. Its context of {context_length} tokens is too short to remember: each \
                 question stands alone. Ctrl-D leaves."
            ),
        }
        let prompt = Prompt::start();
        loop {
            let line = tokio::select! {
                line = prompt.line() => line?,
                ending = signals.next() => return Ok(ending.exit_code()),
            };
            let Some(line) = line else { return Ok(ExitCode::SUCCESS) };
            match line.trim() {
                "" => {}
                "/new" => self.messages.clear(),
                "/quit" | "/exit" => return Ok(ExitCode::SUCCESS),
                question => match self.ask(question.to_owned(), signals).await {
                    Ok(Turn::Answered | Turn::Interrupted(Ending::Interrupt)) => {}
                    Ok(Turn::Interrupted(Ending::Terminate)) => {
                        return Ok(Ending::Terminate.exit_code());
                    }
                    // The next question may work.
                    Err(error) => note_line!("error: {}", describe(&error)),
                },
            }
        }
    }

    /// One question and its answer, which become part of the conversation when it is complete.
    async fn ask(&mut self, question: String, signals: &mut Signals) -> Result<Turn, ClientError> {
        let mut messages = self.messages.clone();
        messages.push(Message { role: "user", content: question });
        let turn = loop {
            let screen = &mut self.screen;
            let mut show = |piece: client::Piece<'_>| screen.show(piece);
            let asked = tokio::select! {
                answer = self.client.ask(&messages, &mut show) => answer,
                ending = signals.next() => {
                    self.screen.end();
                    return Ok(Turn::Interrupted(ending));
                }
            };
            self.screen.end();
            match asked {
                Ok(answer) => {
                    messages.push(Message { role: "assistant", content: answer });
                    break Turn::Answered;
                }
                Err(error) if is_too_long(&error) && messages.len() > 2 => {
                    note_line!("(the conversation is too long; its beginning is forgotten)");
                    messages.drain(..2);
                }
                Err(error) => return Err(error),
            }
        };
        match self.recall {
            Recall::Conversation => self.messages = messages,
            Recall::Nothing { .. } => {}
        }
        Ok(turn)
    }
}

fn is_too_long(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Refused { code: Some(code), .. } if code == "context_length_exceeded"
    )
}

/// Line editing on a thread of its own, for it blocks.
struct Prompt {
    wishes: mpsc::UnboundedSender<oneshot::Sender<Line>>,
}

type Line = Result<Option<String>, ReadlineError>;

impl Prompt {
    fn start() -> Self {
        let (wishes, mut wished) = mpsc::unbounded_channel::<oneshot::Sender<Line>>();
        std::thread::spawn(move || {
            let mut editor = rustyline::DefaultEditor::new();
            while let Some(wish) = wished.blocking_recv() {
                let line = match &mut editor {
                    Ok(editor) => read_line(editor),
                    Err(_) => Ok(None),
                };
                if wish.send(line).is_err() {
                    return;
                }
            }
        });
        Self { wishes }
    }

    /// The next line; `None` when there are no more.
    async fn line(&self) -> anyhow::Result<Option<String>> {
        let (wish, line) = oneshot::channel();
        if self.wishes.send(wish).is_err() {
            return Ok(None);
        }
        match line.await {
            Ok(line) => line.context("read a line"),
            Err(_) => Ok(None),
        }
    }
}

fn read_line(editor: &mut rustyline::DefaultEditor) -> Line {
    match editor.readline("> ") {
        Ok(line) => {
            // A history without the line is no reason to lose the line.
            let _ = editor.add_history_entry(line.as_str());
            Ok(Some(line))
        }
        Err(ReadlineError::Eof | ReadlineError::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
