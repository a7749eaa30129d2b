//! What the server does on behalf of a worker process, with the same services that nodes have inside of the server.
//!
//! The process may be in the hands of a pack that broke out of WebAssembly. So nothing that it says is believed: neither which
//! tenant it works for (it must be one of its group), nor that it checked a permission, nor which pack is asking. Whatever some
//! pack was granted for the tenant is what it can have.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use vivarium_outbound::Bounds;
use vivarium_packs::Catalog;
use vivarium_protocol::{permission::Permission, tenant::TenantId};
use vivarium_sandbox::{CallError, CallErrorKind, HostServices, Limits, LogLevel, OutputFolder};

use super::message::{Answer, HttpBounds, Level, Request};
use crate::services::output_name;
use crate::shared::Reach;

/// Answers the requests of one process.
pub(crate) struct Broker {
    pub(crate) reach: Reach,
    pub(crate) catalog: Arc<Catalog>,
}

/// An answer with what belongs to it.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) tail: Vec<u8>,
    pub(crate) file: Option<File>,
}

impl From<Answer> for Answered {
    fn from(answer: Answer) -> Self {
        Self { answer, tail: Vec::new(), file: None }
    }
}

impl Answered {
    fn bytes(tail: Vec<u8>) -> Self {
        Self { answer: Answer::Bytes, tail, file: None }
    }

    fn file(file: File) -> Self {
        Self { answer: Answer::File, tail: Vec::new(), file: Some(file) }
    }
}

fn refused(what: &str) -> CallError {
    CallError::new(CallErrorKind::PermissionDenied, format!("the server refuses the worker process {what}"))
}

impl Broker {
    /// `is_member` says whether the tenant belongs to the group of the process; `wanted` until when the answer is.
    pub(crate) fn answer(
        &self,
        tenant: &TenantId,
        is_member: bool,
        request: Request,
        tail: Vec<u8>,
        wanted: &AtomicBool,
    ) -> Result<Answered, CallError> {
        if let Request::Code { digest } = &request {
            return self.code(digest);
        }
        if !is_member {
            return Err(refused("what is another group's"));
        }
        let services = self.reach.services(tenant, None);
        let services = services.map_err(|error| CallError::new(CallErrorKind::Internal, error.to_string()))?;
        let granted = |permission: Permission| match self.reach.grants.allows_any(tenant, &permission) {
            true => Ok(()),
            false => Err(refused(&format!("what needs {permission}, which no pack of the tenant was granted"))),
        };
        let has_scratch = |pack: &str| match services.allows(pack, &Permission::Scratch) {
            true => Ok(()),
            false => Err(refused("scratch files of a pack that was not granted any")),
        };
        Ok(match request {
            Request::ImageExists { name } => Answer::YesNo(services.image_exists(&name)).into(),
            Request::ImageFingerprint { name } => Answer::Text(Some(services.image_fingerprint(&name)?)).into(),
            Request::ImageBytes { name } => Answered::bytes(services.image_bytes(&name)?),
            Request::Save { temporary, prefix, width, height, number } => {
                let folder = if temporary { OutputFolder::Temp } else { OutputFolder::Output };
                let saved = services.save_image(folder, &output_name(&prefix, width, height)?, number, &tail)?;
                Answer::Saved(saved.filename, saved.subfolder).into()
            }
            Request::Log { pack, node_id, level, message } => {
                services.log(&one_line(&pack), &one_line(&node_id), level.into(), &one_line(&message));
                Answer::Done.into()
            }
            Request::Allows { pack, permission } => {
                let allows = |permission: Permission| services.allows(&pack, &permission);
                Answer::YesNo(permission.parse().is_ok_and(allows)).into()
            }
            Request::ModelFiles { folder } => {
                granted(Permission::Weights { folder: folder.clone() })?;
                Answer::Names(services.model_files(&folder)?).into()
            }
            Request::OpenModel { folder, name } => {
                granted(Permission::Weights { folder: folder.clone() })?;
                Answered::file(services.open_model(&folder, &name)?)
            }
            Request::Secret { name } => {
                granted(Permission::Secret { name: name.clone() })?;
                Answer::Text(services.secret(&name)?).into()
            }
            Request::Http { pack, method, url, headers, bounds } => {
                let request = vivarium_outbound::Request { method, url, headers, body: tail };
                let bounds = within(bounds, &self.reach.limits.of(tenant, Some(&pack)));
                let answer = services.http(&pack, request, &bounds, &|| !wanted.load(Ordering::Relaxed))?;
                let http = Answer::Http(answer.status, answer.url, answer.headers);
                Answered { answer: http, tail: answer.body, file: None }
            }
            Request::ScratchFiles { pack } => {
                has_scratch(&pack)?;
                let files = services.scratch_files(&pack)?.into_iter();
                Answer::Entries(files.map(|file| (file.name, false, file.bytes)).collect()).into()
            }
            Request::ReadScratch { pack, name, limit } => {
                has_scratch(&pack)?;
                Answered::bytes(services.read_scratch(&pack, &name, limit)?)
            }
            Request::WriteScratch { pack, name } => {
                has_scratch(&pack)?;
                let limits = self.reach.limits.of(tenant, Some(&pack));
                services.write_scratch(&pack, &name, &tail, &limits)?;
                Answer::Done.into()
            }
            Request::RemoveScratch { pack, name } => {
                has_scratch(&pack)?;
                services.remove_scratch(&pack, &name)?;
                Answer::Done.into()
            }
            Request::ListFolder { folder, path, limit } => {
                granted(Permission::Input { name: folder.clone() })?;
                let entries = services.list_folder(&folder, &path, limit)?.into_iter();
                Answer::Entries(entries.map(|entry| (entry.name, entry.is_folder, entry.bytes)).collect()).into()
            }
            Request::OpenInFolder { folder, path } => {
                granted(Permission::Input { name: folder.clone() })?;
                Answered::file(services.open_in_folder(&folder, &path)?)
            }
            Request::Code { .. } => return Err(refused("the same thing twice")),
        })
    }

    fn code(&self, digest: &str) -> Result<Answered, CallError> {
        let snapshot = self.catalog.snapshot();
        let gone = |message: String| CallError::new(CallErrorKind::NotFound, message);
        let component = snapshot.usable().map(|(_, component)| component).find(|one| one.digest() == digest);
        let component = component.ok_or_else(|| gone("the pack is not installed any more".to_owned()))?;
        component.native_code().map(Answered::bytes).map_err(|error| gone(error.to_string()))
    }
}

/// What is asked for, but no more than the pack may.
fn within(asked: HttpBounds, limits: &Limits) -> Bounds {
    Bounds {
        response_bytes: asked.response_bytes.min(limits.http_response_bytes),
        redirects: asked.redirects.min(limits.http_redirects),
        time: asked.time.min(limits.http_time),
        at_once: limits.http_at_once,
    }
}

/// A line break must not begin a line of the log. The sandbox took them out already, if it was the sandbox that asked.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect()
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, io::Read, time::Duration};

    use vivarium_blobs::{BlobStore, ModelFolders, NamedFolders, ScratchFolders, TenantDirs, TenantFiles};
    use vivarium_outbound::{HttpClient, HttpError, Request as HttpRequest, Response};
    use vivarium_packs::Grants;
    use vivarium_protocol::host_rule::HostRule;
    use vivarium_sandbox::{EngineConfig, LimitTable, SandboxEngine};

    use super::*;
    use crate::shared::Outside;

    /// Answers with what it was allowed to use.
    struct Echo;

    impl HttpClient for Echo {
        fn send(
            &self,
            account: &str,
            _: HttpRequest,
            rules: &[HostRule],
            bounds: &Bounds,
            stop: &dyn Fn() -> bool,
        ) -> Result<Response, HttpError> {
            if stop() {
                return Err(HttpError::Interrupted);
            }
            let body = format!("{account} {} {}", rules.len(), bounds.response_bytes).into_bytes();
            Ok(Response { status: 200, url: String::new(), headers: Vec::new(), body })
        }
    }

    struct World {
        base: tempfile::TempDir,
        broker: Broker,
    }

    impl World {
        fn new() -> Self {
            let base = tempfile::tempdir().unwrap();
            let root = base.path().to_owned();
            for (file, text) in [
                ("models/vae/a.safetensors", "weights"),
                ("models/loras/b.safetensors", "others"),
                ("photos/c.png", "photo"),
            ] {
                fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
                fs::write(root.join(file), text).unwrap();
            }
            let store = BlobStore::open(&root.join("blobs")).unwrap();
            let grants =
                ["p:models/vae", "p:input/photos", "p:scratch", "p:http/a.example"].map(|grant| grant.parse().unwrap());
            let engine = SandboxEngine::new(EngineConfig::default()).unwrap();
            let photos = NamedFolders::new([
                ("photos".to_owned(), root.join("photos")),
                ("other".to_owned(), root.join("models")),
            ]);
            let outside =
                Outside { http: Arc::new(Echo), scratch: ScratchFolders::at(root.join("scratch")), folders: photos };
            let reach = Reach {
                models: Arc::new(ModelFolders::below(&root)),
                grants: Arc::new(Grants::for_every_tenant(grants)),
                outside,
                limits: Arc::new(LimitTable::of_server(engine.limits().clone())),
                save_metadata: true,
                files: Arc::new(move |tenant: &TenantId| {
                    let dirs = TenantDirs::below(&root, tenant);
                    Ok(Arc::new(TenantFiles::open(tenant.clone(), store.clone(), dirs)?))
                }),
            };
            Self { base, broker: Broker { reach, catalog: Arc::new(Catalog::told(engine)) } }
        }

        fn ask(&self, request: Request) -> Result<Answered, CallError> {
            self.broker.answer(&"alice".parse().unwrap(), true, request, b"bytes".to_vec(), &AtomicBool::new(true))
        }

        fn refuses(&self, request: Request) {
            let asked = format!("{request:?}");
            let error = self.ask(request).err().map(|error| error.kind);
            assert_eq!(error, Some(CallErrorKind::PermissionDenied), "{asked}");
        }
    }

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn a_process_gets_nothing_of_a_tenant_of_another_group() {
        let world = World::new();
        let requests = [
            Request::ImageBytes { name: text("a.png") },
            Request::Save { temporary: false, prefix: text("a"), width: 1, height: 1, number: 0 },
            Request::Allows { pack: text("p"), permission: text("scratch") },
            Request::OpenModel { folder: text("vae"), name: text("a.safetensors") },
            Request::ReadScratch { pack: text("p"), name: text("a"), limit: 9 },
        ];
        for request in requests {
            let asked = format!("{request:?}");
            let wanted = AtomicBool::new(true);
            let answer = world.broker.answer(&"bob".parse().unwrap(), false, request, Vec::new(), &wanted);
            let kind = answer.err().map(|error| error.kind);
            assert_eq!(kind, Some(CallErrorKind::PermissionDenied), "{asked}");
        }
        assert!(!world.base.path().join("tenants/bob").exists(), "not even its folders were made");
    }

    #[test]
    fn what_no_pack_was_granted_is_refused_whatever_the_process_claims_to_have_checked() {
        let world = World::new();
        world.refuses(Request::ModelFiles { folder: text("loras") });
        world.refuses(Request::OpenModel { folder: text("loras"), name: text("b.safetensors") });
        world.refuses(Request::Secret { name: text("key") });
        world.refuses(Request::ListFolder { folder: text("other"), path: String::new(), limit: 9 });
        world.refuses(Request::OpenInFolder { folder: text("other"), path: text("vae/a.safetensors") });
        world.refuses(Request::OpenInFolder { folder: text("photos"), path: text("../models/vae/a.safetensors") });
        world.refuses(Request::ScratchFiles { pack: text("q") });
        world.refuses(Request::WriteScratch { pack: text("q"), name: text("a") });
        let outside = Request::Save { temporary: false, prefix: text("../../bob/a"), width: 1, height: 1, number: 0 };
        assert!(world.ask(outside).is_err());
        assert!(world.ask(Request::ImageBytes { name: text("../../bob/input/a.png") }).is_err());
        assert!(world.ask(Request::Code { digest: text("../../packs.json") }).is_err());
    }

    #[test]
    fn what_was_granted_is_handed_over() {
        let world = World::new();
        let read = |answered: Answered| {
            let mut text = String::new();
            answered.file.unwrap().read_to_string(&mut text).unwrap();
            text
        };
        let model = world.ask(Request::OpenModel { folder: text("vae"), name: text("a.safetensors") }).unwrap();
        assert_eq!(read(model), "weights");
        let photo = world.ask(Request::OpenInFolder { folder: text("photos"), path: text("c.png") }).unwrap();
        assert_eq!(read(photo), "photo");
        world.ask(Request::WriteScratch { pack: text("p"), name: text("a") }).unwrap();
        assert_eq!(
            world.ask(Request::ReadScratch { pack: text("p"), name: text("a"), limit: 9 }).unwrap().tail,
            b"bytes"
        );
        let saved =
            world.ask(Request::Save { temporary: false, prefix: text("a"), width: 1, height: 1, number: 0 }).unwrap();
        let Answer::Saved(name, folder) = saved.answer else { panic!("{:?}", saved.answer) };
        let file = world.base.path().join("tenants/alice/output").join(folder).join(name);
        assert_eq!(fs::read(&file).unwrap(), b"bytes", "{}", file.display());
    }

    #[test]
    fn a_request_keeps_to_the_hosts_and_limits_of_the_pack_and_stops_when_nobody_waits() {
        let world = World::new();
        let bounds = HttpBounds { response_bytes: u64::MAX, redirects: 99, time: Duration::MAX, at_once: 999 };
        let request = |pack: &str| {
            let (method, url) = (text("GET"), text("https://a.example"));
            Request::Http { pack: text(pack), method, url, headers: Vec::new(), bounds }
        };
        let most = Limits::default().http_response_bytes;
        assert_eq!(world.ask(request("p")).unwrap().tail, format!("alice 1 {most}").into_bytes());
        assert_eq!(world.ask(request("q")).unwrap().tail, format!("alice 0 {most}").into_bytes());
        let unwanted = AtomicBool::new(false);
        let stopped = world.broker.answer(&"alice".parse().unwrap(), true, request("p"), Vec::new(), &unwanted);
        assert_eq!(stopped.err().map(|error| error.kind), Some(CallErrorKind::Interrupted));
    }
}
