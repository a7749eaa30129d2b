//! The routes: the table is here, each group has a file.
//!
//! Every route exists twice, at `/x` and at `/api/x`, except those under `/internal`. What is no route is a static file.
//! Each is described where it is added; `/openapi.json` is made of that.

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
pub(crate) mod table;
pub(crate) mod upload;
pub(crate) mod userdata;
pub(crate) mod users;
pub(crate) mod view;
pub(crate) mod vivarium;

use axum::Router;

use crate::{
    auth, front_end, openapi,
    routes::table::{Answer, Table, about},
    state::AppState,
    ws,
};

/// All routes, without any middleware.
pub(crate) fn table() -> Router<AppState> {
    let protocol = protocol().finish().0;
    Router::new()
        .merge(protocol.clone())
        .nest("/api", protocol)
        .merge(internal_routes().finish().0)
        .fallback(front_end::serve)
        .method_not_allowed_fallback(front_end::method_not_allowed)
}

/// What is said about all routes.
pub(crate) fn operations() -> Vec<table::Operation> {
    protocol().merge(internal_routes()).merge(auth::routes()).finish().1
}

/// What is there with and without `/api`.
fn protocol() -> Table {
    Table::tagged("sockets")
        .get("/ws", ws::connect, about("Follow events").query(&["clientId"]).answers(Answer::Socket))
        .merge(prompts())
        .merge(jobs())
        .merge(files())
        .merge(user_data())
        .merge(descriptions())
        .merge(models())
        .merge(own())
        .with_twins()
}

fn prompts() -> Table {
    const EMPTY: Answer = Answer::Empty;
    Table::tagged("prompts")
        .get("/prompt", prompt::status, about("How many prompts wait or run").answers(Answer::Json("Remaining")))
        .post(
            "/prompt",
            prompt::submit,
            about("Queue a prompt; an Idempotency-Key header makes it repeatable, strict refuses what can run in part only")
                .query(&["strict"])
                .body("PromptRequest")
                .answers(Answer::Json("PromptAccepted")),
        )
        .get("/queue", queue::show, about("What runs and what waits").answers(Answer::Json("Queue")))
        .post("/queue", queue::change, about("Clear the queue or delete prompts").body("Change").answers(EMPTY))
        .post("/interrupt", queue::interrupt, about("Stop what runs, or one prompt").body("PromptId").answers(EMPTY))
        .post("/free", queue::free, about("Drop cached results").body("Free").answers(EMPTY))
        .get("/history", history::list, about("Prompts that ended").query(&["max_items#", "offset#"]).answers(Answer::Json("History")))
        .post("/history", history::change, about("Clear the history or delete entries").body("Change").answers(EMPTY))
        .get("/history/{id}", history::one, about("One prompt that ended, or {}").answers(Answer::Json("History")))
}

fn jobs() -> Table {
    Table::tagged("jobs")
        .get(
            "/jobs",
            jobs::list,
            about("Prompts in every state, a page at a time").query(&[
                "status",
                "workflow_id",
                "limit#",
                "offset#",
                "sort_by",
                "sort_order",
            ]),
        )
        .post("/jobs/cancel", jobs::cancel_many, about("Stop or remove several jobs").body("JobIds"))
        .get("/jobs/{id}", jobs::one, "One job with everything about it")
        .post("/jobs/{id}/cancel", jobs::cancel, "Stop or remove a job")
}

fn files() -> Table {
    const UPLOADED: Answer = Answer::Json("Uploaded");
    Table::tagged("files")
        .post(
            "/upload/image",
            upload::image,
            about("Upload an image").form(&["image", "subfolder", "type", "overwrite"]).answers(UPLOADED),
        )
        .post(
            "/upload/mask",
            upload::mask,
            about("Upload a mask, which becomes the alpha of a copy of an image")
                .form(&["image", "original_ref", "subfolder", "type", "overwrite"])
                .answers(UPLOADED),
        )
        .get(
            "/view",
            view::view,
            about("A file, as it is or as an image in another form")
                .query(&["filename!", "subfolder", "type", "preview", "channel"])
                .answers(Answer::File),
        )
}

fn user_data() -> Table {
    const EMPTY: Answer = Answer::Empty;
    const FLAGS: &[&str] = &["overwrite", "full_info"];
    Table::tagged("user data")
        .get("/users", users::list, "Where the data of users is kept, and who they are")
        .post("/users", users::create, about("Make a user inside the tenant (--multi-user)").body("User"))
        .get(
            "/userdata",
            userdata::list,
            about("Files below a folder").query(&["dir!", "recurse", "split", "full_info"]),
        )
        .get("/v2/userdata", userdata::tree, about("Files and folders in a folder").query(&["path"]))
        .get("/userdata/{file}", userdata::read, about("A file").answers(Answer::File))
        .post("/userdata/{file}", userdata::write, about("Write a file").query(FLAGS).bytes())
        .delete("/userdata/{file}", userdata::delete, about("Delete a file").answers(Answer::NoContent))
        .post("/userdata/{file}/move/{dest}", userdata::rename, about("Rename a file").query(FLAGS))
        .get("/settings", settings::all, "All settings of user interfaces")
        .post("/settings", settings::merge, about("Change several settings").body("Object").answers(EMPTY))
        .get("/settings/{id}", settings::one, "One setting, or null")
        .post("/settings/{id}", settings::set, about("Change a setting").body("Any").answers(EMPTY))
}

fn descriptions() -> Table {
    Table::tagged("descriptions")
        .get("/object_info", object_info::all, "Every node class")
        .get("/object_info/{class}", object_info::one, "One node class, or {}")
        .get("/system_stats", system::stats, "The machine and its memory")
        .get("/features", system::show_features, "What this server can do")
        .get("/extensions", extensions::scripts, "Scripts that front ends import")
        .get("/i18n", extensions::translations, "Translations of packs")
        .get("/workflow_templates", extensions::templates, "Example workflows of packs")
        .get("/workflow_templates/{pack}/{file}", extensions::template, "An example workflow")
        .get("/node_replacements", extensions::replacements, "Classes that took the place of others")
        .get("/global_subgraphs", extensions::subgraphs, "Subgraphs of packs")
        .get("/global_subgraphs/{id}", extensions::one_subgraph, "A subgraph")
}

fn models() -> Table {
    Table::tagged("models")
        .get("/models", models::types, "Types of models")
        .get("/models/{folder}", models::names, "Names of the models of a type")
        .get("/embeddings", models::embeddings, "Names of embeddings")
        .get(
            "/view_metadata/{folder}",
            models::metadata,
            about("What a safetensors file says about itself").query(&["filename!"]),
        )
        .get("/experiment/models", models::types_with_directories, "Types of models and their folders")
        .get("/experiment/models/{folder}", models::files, "Models of a type with size and time")
        .get(
            "/experiment/models/preview/{folder}/{index}/{*file}",
            models::preview,
            about("The image that shows a model").answers(Answer::File),
        )
}

fn own() -> Table {
    Table::tagged("vivarium")
        .get("/openapi.json", openapi::show, "This description of the server")
        .get("/vivarium/packs", vivarium::packs, "Every pack, what it asks for and has")
        .get("/vivarium/limits", vivarium::limits, "Every limit in force and what is used of it")
        .get("/vivarium/example-workflow", vivarium::example_workflow, "A workflow for people who have none yet")
        .get("/vivarium/schema/{class}", object_info::schema, "The inputs of a node class as JSON Schema")
        .post(
            "/vivarium/validate",
            prompt::dry_run,
            about("Check a prompt without queueing it").body("PromptRequest").answers(Answer::Json("Findings")),
        )
}

fn internal_routes() -> Table {
    Table::tagged("internal")
        .get("/internal/logs", internal::logs, "The last lines of the log as one text")
        .get("/internal/logs/raw", internal::raw_logs, "The last lines of the log")
        .patch(
            "/internal/logs/subscribe",
            internal::subscribe,
            about("Get log lines as events").body("Subscription").answers(Answer::Empty),
        )
        .get("/internal/files/{folder}", internal::files, "Files in a folder, newest first")
        .get("/internal/folder_paths", internal::folder_paths, "Types of models and their folders")
}
