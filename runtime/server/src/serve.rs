//! Listening and stopping.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, lookup_host},
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    auth,
    config::ServerConfig,
    connections::Connections,
    error::{ApiError, ServerError},
    routes::internal::stream_logs,
    service::Application,
    state::AppState,
};

/// How long sockets get to take what is queued for them when the server stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often the tokens of open sockets are looked at again.
const ADMISSION_EVERY: Duration = Duration::from_secs(10);

/// Opens every address of the settings. All or none: a server that listens on half of them helps nobody.
///
/// # Errors
/// [`ServerError::Bind`] names the address; [`ServerError::Unauthenticated`] when it is not loopback and nobody said that
/// this is meant.
pub async fn bind(config: &ServerConfig) -> Result<Vec<TcpListener>, ServerError> {
    let asks_to_log_in = auth::Accounts::of(config)?.required();
    let mut listeners = Vec::new();
    for host in &config.listen {
        let host = host.trim().trim_start_matches('[').trim_end_matches(']');
        let failed = |source| ServerError::Bind { address: format!("{host}:{}", config.port), source };
        let addresses: Vec<SocketAddr> = lookup_host((host, config.port)).await.map_err(failed)?.collect();
        for address in addresses {
            check_reach(address, config, asks_to_log_in)?;
            let listener = TcpListener::bind(address).await;
            listeners.push(listener.map_err(|source| ServerError::Bind { address: address.to_string(), source })?);
        }
    }
    Ok(listeners)
}

/// Serves until `shutdown` is done. Then nothing new is let in; running prompts get [`crate::ServerLimits::prompt_grace`] to
/// end, or go back into the queue; then sockets are closed, and open requests get
/// [`crate::ServerLimits::shutdown_grace`] to end.
///
/// # Errors
/// [`ServerError::Unauthenticated`] as for [`bind`], since listeners may come from elsewhere.
pub async fn serve(
    listeners: Vec<TcpListener>,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    for listener in &listeners {
        check_reach(listener.local_addr()?, state.config(), state.accounts().required())?;
    }
    let stop = CancellationToken::new();
    let connections = Connections::new(Application::new(state.clone()), &state.config().limits);
    let mut listening = JoinSet::new();
    for listener in listeners {
        listening.spawn(connections.clone().accept(listener, stop.clone()));
    }
    let mut background = JoinSet::new();
    background.spawn(stream_logs(state.clone()));
    background.spawn({
        let hub = Arc::clone(state.hub());
        async move { hub.serve_crowds().await }
    });
    background.spawn(cut_unadmitted_sockets(state.clone()));
    tokio::select! {
        () = shutdown => {}
        // Only a listener that broke ends by itself.
        Some(ended) = listening.join_next() => finish(ended)?,
    }
    tracing::info!("stopping");
    stop.cancel();
    finish_prompts(&state).await;
    state.hub().close();
    // Most have ended by then; who reads nothing is not waited for any longer.
    let _ = timeout(FAREWELL, connections.ended()).await;
    state.hub().break_off();
    background.abort_all();
    let grace = state.config().limits.shutdown_grace;
    if timeout(grace, connections.ended()).await.is_err() {
        tracing::warn!(?grace, "some requests did not end in time and are broken off");
    }
    Ok(())
}

/// Their clients hear how they end, or that they wait again, before the sockets are closed.
async fn finish_prompts(state: &AppState) {
    let stopped = state
        .blocking("stopping the worker", |state| {
            state.engine().stop(state.config().limits.prompt_grace);
            Ok::<_, ApiError>(())
        })
        .await;
    if stopped.is_err() {
        tracing::warn!("running prompts may be taken up again by the next start");
    }
}

/// A socket outlives the request that opened it; its token may not.
async fn cut_unadmitted_sockets(state: AppState) {
    let mut ticks = interval(ADMISSION_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        state.hub().cut_unadmitted(|access| state.accounts().still_good(access));
    }
}

fn check_reach(address: SocketAddr, config: &ServerConfig, asks_to_log_in: bool) -> Result<(), ServerError> {
    if address.ip().to_canonical().is_loopback() || config.allow_unauthenticated_remote || asks_to_log_in {
        Ok(())
    } else {
        Err(ServerError::Unauthenticated { address })
    }
}

fn finish(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> Result<(), ServerError> {
    ended.map_err(std::io::Error::other)?.map_err(Into::into)
}
