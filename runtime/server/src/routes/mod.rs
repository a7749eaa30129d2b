//! The routes: the table is here, each group has a file.
//!
//! Every route exists twice, at `/x` and at `/api/x`, except those under `/internal`. What is no route is a static file.

pub(crate) mod extensions;
pub(crate) mod history;
pub(crate) mod internal;
pub(crate) mod jobs;
pub(crate) mod models;
pub(crate) mod object_info;
pub(crate) mod prompt;
pub(crate) mod queue;
pub(crate) mod settings;
pub(crate) mod system;
pub(crate) mod upload;
pub(crate) mod userdata;
pub(crate) mod users;
pub(crate) mod view;
pub(crate) mod vivarium;

use axum::{
    Router,
    routing::{get, patch, post},
};

use crate::{front_end, state::AppState, ws};

/// All routes, without any middleware.
pub(crate) fn table() -> Router<AppState> {
    Router::new()
        .merge(protocol())
        .nest("/api", protocol())
        .merge(internal_routes())
        .fallback(front_end::serve)
        .method_not_allowed_fallback(front_end::method_not_allowed)
}

/// What is there with and without `/api`.
fn protocol() -> Router<AppState> {
    Router::new()
        .route("/ws", get(ws::connect))
        .merge(prompts())
        .merge(files())
        .merge(descriptions())
        .route("/vivarium/packs", get(vivarium::packs))
        .route("/vivarium/limits", get(vivarium::limits))
        .route("/vivarium/example-workflow", get(vivarium::example_workflow))
}

fn prompts() -> Router<AppState> {
    Router::new()
        .route("/prompt", get(prompt::status).post(prompt::submit))
        .route("/queue", get(queue::show).post(queue::change))
        .route("/interrupt", post(queue::interrupt))
        .route("/free", post(queue::free))
        .route("/history", get(history::list).post(history::change))
        .route("/history/{id}", get(history::one))
        .route("/jobs", get(jobs::list))
        .route("/jobs/cancel", post(jobs::cancel_many))
        .route("/jobs/{id}", get(jobs::one))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
}

fn files() -> Router<AppState> {
    Router::new()
        .route("/upload/image", post(upload::image))
        .route("/upload/mask", post(upload::mask))
        .route("/view", get(view::view))
        .route("/users", get(users::list).post(users::create))
        .route("/userdata", get(userdata::list))
        .route("/v2/userdata", get(userdata::tree))
        .route("/userdata/{file}", get(userdata::read).post(userdata::write).delete(userdata::delete))
        .route("/userdata/{file}/move/{dest}", post(userdata::rename))
        .route("/settings", get(settings::all).post(settings::merge))
        .route("/settings/{id}", get(settings::one).post(settings::set))
}

fn descriptions() -> Router<AppState> {
    Router::new()
        .route("/object_info", get(object_info::all))
        .route("/object_info/{class}", get(object_info::one))
        .route("/system_stats", get(system::stats))
        .route("/features", get(system::show_features))
        .route("/models", get(models::types))
        .route("/models/{folder}", get(models::names))
        .route("/embeddings", get(models::embeddings))
        .route("/view_metadata/{folder}", get(models::metadata))
        .route("/experiment/models", get(models::types_with_directories))
        .route("/experiment/models/{folder}", get(models::files))
        .route("/experiment/models/preview/{folder}/{index}/{*file}", get(models::preview))
        .route("/extensions", get(extensions::scripts))
        .route("/i18n", get(extensions::none))
        .route("/workflow_templates", get(extensions::none))
        .route("/node_replacements", get(extensions::none))
        .route("/global_subgraphs", get(extensions::none))
}

fn internal_routes() -> Router<AppState> {
    Router::new()
        .route("/internal/logs", get(internal::logs))
        .route("/internal/logs/raw", get(internal::raw_logs))
        .route("/internal/logs/subscribe", patch(internal::subscribe))
        .route("/internal/files/{folder}", get(internal::files))
        .route("/internal/folder_paths", get(internal::folder_paths))
}
