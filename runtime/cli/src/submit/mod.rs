//! `vivarium submit`: runs a workflow on any server that speaks ComfyUI's protocol.
//!
//! # Layout
//! - [`api`]: the HTTP calls
//! - [`socket`]: the event stream
//! - [`follow`]: waiting for the end of a prompt, whatever happens to the connection
//! - [`fetch`]: the files it made

mod api;
mod fetch;
mod follow;
mod socket;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use self::api::Api;
use crate::{
    failure::{Exit, Failure, Outcome, fail},
    progress::Progress,
    report::{Ended, Report, SavedFile},
    results::listed,
    signals::Stop,
    workflow::{InputFile, Setting, Workflow, check_declared},
};

/// Run a workflow on a server and fetch its results.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  vivarium submit postcard.json --upload photo.jpg
  vivarium submit postcard.json --server http://gpu-box:8188 --set 4.width=768 -o results
  vivarium submit postcard.json --set 'LoadImage.image=photo.jpg' --json | jq -r '.files[].path'

The server may be Vivarium or ComfyUI. Progress goes to stderr; the paths of the saved files go to stdout, one a line.
Ctrl-C takes the prompt back from the server.")]
pub(crate) struct Submit {
    /// The workflow in the API format; - reads standard input
    workflow: PathBuf,

    /// Where the server is
    #[arg(long, value_name = "URL", env = "VIVARIUM_SERVER", default_value = "http://127.0.0.1:8188")]
    server: String,

    /// Upload a file into the server's input folder first; NAME is what the workflow calls it
    #[arg(long, value_name = "[NAME=]FILE")]
    upload: Vec<InputFile>,

    /// Change an input; the node is its id, or a title or class that only one node has
    #[arg(long, value_name = "NODE.INPUT=VALUE")]
    set: Vec<Setting>,

    /// Where to put the results
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output_directory: PathBuf,

    /// Fetch previews (files of type `temp`) as well
    #[arg(long)]
    previews: bool,

    /// Give up after this long
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,

    /// The token that the server's operator gave you; better in the environment, where other users don't see it
    #[arg(long, value_name = "TOKEN", env = "VIVARIUM_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// Send this header with every request, for example 'X-Api-Key: …'
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,

    /// Print one JSON object instead of paths
    #[arg(long)]
    json: bool,

    /// No progress
    #[arg(short, long)]
    quiet: bool,
}

impl Submit {
    pub(crate) fn run(self) -> Outcome<()> {
        let stop = Stop::on_signals()?;
        let started = Instant::now();
        let token = self.token.iter().map(|token| format!("Authorization: Bearer {}", token.trim()));
        let headers: Vec<String> = token.chain(self.header.iter().cloned()).collect();
        let api = Api::new(&self.server, &headers)?;
        let mut workflow = Workflow::read(&self.workflow)?;
        self.change_inputs(&api, &mut workflow)?;
        self.upload_files(&api, &mut workflow)?;

        let mut progress = Progress::new(&workflow, self.quiet);
        let ended = self.follow(&api, &workflow, &mut progress, stop);
        progress.end();
        let (prompt_id, ended) = ended?;
        let files = match &prompt_id {
            Some(prompt_id) => self.fetch(&api, prompt_id)?,
            None => Vec::new(),
        };
        let report = Report { prompt_id, ended, files, seconds: started.elapsed().as_secs_f64() };
        report.print(self.json)
    }

    fn change_inputs(&self, api: &Api, workflow: &mut Workflow) -> Outcome<()> {
        for setting in &self.set {
            let applied = setting.apply(workflow)?;
            if !applied.existed {
                let info = api.object_info(&applied.class)?;
                check_declared(&applied.class, &applied.input, &info)?;
            }
        }
        Ok(())
    }

    /// Uploads, and lets the workflow follow where the server had to choose another name.
    fn upload_files(&self, api: &Api, workflow: &mut Workflow) -> Outcome<()> {
        for file in &self.upload {
            let stored = api.upload(file)?;
            if stored != file.name {
                workflow.texts_mut().filter(|text| **text == file.name).for_each(|text| text.clone_from(&stored));
            }
        }
        Ok(())
    }

    /// Posts the prompt and waits for its end. Without a prompt id it was refused.
    fn follow(
        &self,
        api: &Api,
        workflow: &Workflow,
        progress: &mut Progress,
        stop: Stop,
    ) -> Outcome<(Option<String>, Ended)> {
        let client_id = Uuid::new_v4().simple().to_string();
        // Connected before the prompt is posted, so that no event is missed.
        let socket = socket::Socket::connect(api, &client_id);
        let body = json!({"prompt": workflow.nodes, "client_id": client_id, "extra_data": workflow.extra_data});
        let accepted = match api.post_prompt(&body)? {
            Ok(accepted) => accepted,
            Err(invalid) => return Ok((None, Ended::Refused(invalid))),
        };
        if let Err(failure) = &socket {
            progress.note(&format!("no progress will be shown: {failure}"));
        }
        for line in crate::report::node_error_lines(&accepted.node_errors) {
            progress.note(&format!("left out: {line}"));
        }
        let mut follower = follow::Follower {
            api,
            socket: socket.ok(),
            client_id,
            prompt_id: accepted.prompt_id.clone(),
            progress,
            stop,
            deadline: self.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
        };
        let ended = follower.follow()?;
        Ok((Some(accepted.prompt_id), ended))
    }

    fn fetch(&self, api: &Api, prompt_id: &str) -> Outcome<Vec<SavedFile>> {
        let Some(entry) = api.history_entry(prompt_id)? else {
            fail!(Exit::Server, "the server has forgotten prompt {prompt_id}, so its results can't be fetched")
        };
        let wanted = listed(&entry.outputs, self.previews);
        let folder = &self.output_directory;
        wanted.into_iter().map(|file| fetch::fetch(api, file, folder)).collect::<Result<_, Failure>>()
    }
}
