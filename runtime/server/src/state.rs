//! What every route can reach.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vivarium_blobs::{ModelFolders, TenantFiles, UserData};
use vivarium_protocol::tenant::TenantId;
use vivarium_queue::Queue;
use vivarium_worker::{Engine, FilesOf};

use crate::{
    auth::Accounts,
    config::ServerConfig,
    error::{ApiError, ServerError},
    front_end::FrontEnd,
    guard::Guard,
    hub::Hub,
    legacy::LegacyImports,
    logs::LogRing,
    routes::{object_info::ObjectInfoCache, vivarium::ExampleWorkflow},
    tenant::User,
};

/// What the server is put together from.
#[derive(Clone)]
pub struct Parts {
    /// Validates, runs and interrupts prompts.
    pub engine: Arc<dyn Engine>,
    /// Where accepted prompts wait and ended ones are kept.
    pub queue: Arc<dyn Queue>,
    /// The folders of tenants; the worker is given the same.
    pub files: FilesOf,
    /// Where models lie; the worker is given the same.
    pub models: Arc<ModelFolders>,
    /// The sockets; the worker sends its events here.
    pub hub: Arc<Hub>,
    /// The server's log.
    pub logs: LogRing,
}

/// The state of a running server. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

struct Inner {
    config: ServerConfig,
    parts: Parts,
    guard: Guard,
    accounts: Arc<Accounts>,
    front_end: FrontEnd,
    legacy_imports: LegacyImports,
    object_info: ObjectInfoCache,
    example_workflow: ExampleWorkflow,
    /// Bounds how many images are decoded at once: each may need its whole budget of memory.
    decodes: Arc<Semaphore>,
}

impl AppState {
    /// Puts a server together.
    ///
    /// # Errors
    /// When a setting means nothing, or a folder or file that it names cannot be used.
    pub fn new(config: ServerConfig, parts: Parts) -> Result<Self, ServerError> {
        let accounts = Arc::new(Accounts::of(&config)?);
        let quotas = Arc::clone(&accounts);
        parts.queue.limit_tenants(Arc::new(move |tenant| quotas.quotas(tenant).map(Into::into).unwrap_or_default()));
        let inner = Inner {
            accounts,
            guard: Guard::new(&config)?,
            front_end: FrontEnd::open(config.front_end_root.as_deref())?,
            legacy_imports: LegacyImports::default(),
            object_info: ObjectInfoCache::default(),
            example_workflow: ExampleWorkflow::load(config.example_workflow.as_deref())?,
            decodes: Arc::new(Semaphore::new(config.limits.concurrent_decodes.max(1))),
            parts,
            config,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &ServerConfig {
        &self.0.config
    }

    /// The sockets.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.0.parts.hub
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.0.guard
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.0.accounts
    }

    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        &self.0.parts.engine
    }

    pub(crate) fn queue(&self) -> &Arc<dyn Queue> {
        &self.0.parts.queue
    }

    pub(crate) fn logs(&self) -> &LogRing {
        &self.0.parts.logs
    }

    pub(crate) fn front_end(&self) -> &FrontEnd {
        &self.0.front_end
    }

    pub(crate) fn legacy_imports(&self) -> &LegacyImports {
        &self.0.legacy_imports
    }

    pub(crate) fn models(&self) -> &ModelFolders {
        &self.0.parts.models
    }

    pub(crate) fn object_info_cache(&self) -> &ObjectInfoCache {
        &self.0.object_info
    }

    pub(crate) fn example_workflow(&self) -> &ExampleWorkflow {
        &self.0.example_workflow
    }

    /// Waits until an image may be decoded.
    pub(crate) async fn decode_permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.0.decodes)
            .acquire_owned()
            .await
            .map_err(|error| ApiError::internal("decoding an image", error))
    }

    /// Tells the sockets of a tenant how much is queued now.
    pub(crate) fn send_status(&self, tenant: &TenantId) {
        self.hub().send_status(tenant, || self.queue().remaining(tenant));
    }

    /// Runs something that blocks (files, the database, guests) off the async threads.
    pub(crate) async fn blocking<T, E>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Self) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Into<ApiError> + Send + 'static,
    {
        let state = self.clone();
        match tokio::task::spawn_blocking(move || work(&state)).await {
            Ok(result) => result.map_err(Into::into),
            Err(panicked) => Err(ApiError::internal(doing, panicked)),
        }
    }

    /// Runs something that blocks with a tenant's folders.
    pub(crate) async fn with_files<T, E>(
        &self,
        tenant: &TenantId,
        doing: &'static str,
        work: impl FnOnce(&TenantFiles) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Into<ApiError> + Send + 'static,
    {
        let tenant = tenant.clone();
        self.blocking(doing, move |state| {
            let files = state.files(&tenant)?;
            work(&files).map_err(Into::into)
        })
        .await
    }

    /// Runs something that blocks with what is kept for a user.
    pub(crate) async fn with_user_data<T, E>(
        &self,
        user: User,
        doing: &'static str,
        work: impl FnOnce(&TenantFiles, &UserData) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        E: Into<ApiError> + Send + 'static,
    {
        self.with_files(&user.tenant, doing, move |files| {
            let data = match &user.id {
                Some(id) => files.users().data(id)?,
                None => Arc::clone(files.user_data()),
            };
            work(files, &data).map_err(Into::into)
        })
        .await
    }

    /// A tenant's folders. May block the first time.
    pub(crate) fn files(&self, tenant: &TenantId) -> Result<Arc<TenantFiles>, ApiError> {
        let files = (self.0.parts.files)(tenant)?;
        files.limit_storage(self.accounts().quotas(tenant).map(|quotas| quotas.storage_bytes));
        Ok(files)
    }
}
