//! The page at `/login`: a form that turns a token into a cookie, without any script.
//!
//! The cookie holds the token itself: a login lasts as long as its token does, survives restarts, and ends everywhere when
//! the token is revoked. Scripts cannot read it, and no other site can make a browser send it.

use axum::{
    body::to_bytes,
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{accounts::Denied, gate::peer_of};
use crate::{
    routes::table::{Answer, Table, about},
    state::AppState,
};

pub(super) const PATH: &str = "/login";
const LOGOUT: &str = "/logout";
const STYLE: &str = "/login/style.css";
const COOKIE: &str = "vivarium_token";
/// The longest a browser keeps a login: 30 days in seconds.
const COOKIE_SECONDS: u64 = 30 * 24 * 60 * 60;
const BODY_BYTES: usize = 4096;

const PAGE: &str = include_str!("login.html");
const STYLE_SHEET: &str = include_str!("login.css");
const MESSAGE: &str = "<!-- message -->";
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The routes that need no login.
pub(crate) fn routes() -> Table {
    let style = async || ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE_SHEET);
    Table::tagged("login")
        .get(PATH, show, about("The page that asks for a token").answers(Answer::Page))
        .post(PATH, log_in, about("Turns a token into a cookie").fields(&["token"]).answers(Answer::Redirect))
        .post(LOGOUT, log_out, about("Takes the cookie away").answers(Answer::Redirect))
        .get(STYLE, style, about("What the page looks like").answers(Answer::Page))
}

pub(super) fn is_login(path: &str) -> bool {
    matches!(path, PATH | LOGOUT | STYLE)
}

/// The forms that a browser may post here: from our own page, which the guard has made sure of.
pub(crate) fn is_login_form(method: &Method, path: &str) -> bool {
    *method == Method::POST && matches!(path, PATH | LOGOUT)
}

/// The token in the login's cookie.
pub(super) fn cookie_token(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, token)| token.to_owned())
}

async fn show() -> Response {
    page(StatusCode::OK, "")
}

#[derive(Deserialize)]
struct Form {
    token: String,
}

async fn log_in(State(state): State<AppState>, request: Request) -> Response {
    let (peer, _) = peer_of(&request);
    let secure = request.headers().get("x-forwarded-proto").is_some_and(|protocol| protocol == "https");
    let Some(Form { token }) = read_form(request).await else {
        return page(StatusCode::BAD_REQUEST, "The form must hold a token.");
    };
    let token = token.trim();
    match state.accounts().log_in(token, peer) {
        Ok(access) => {
            let lasts = state.accounts().lasts(&access).map_or(COOKIE_SECONDS, |rest| rest.min(COOKIE_SECONDS));
            with_cookie(Redirect::to("/"), token, lasts, secure)
        }
        Err(Denied::TooMany { seconds }) => {
            let message = format!("Too many wrong tokens. Try again in {seconds} seconds.");
            let mut response = page(StatusCode::TOO_MANY_REQUESTS, &message);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
        Err(_) => page(StatusCode::UNAUTHORIZED, "This token is unknown, revoked or expired."),
    }
}

async fn log_out() -> Response {
    with_cookie(Redirect::to(PATH), "", 0, false)
}

async fn read_form(request: Request) -> Option<Form> {
    let body = to_bytes(request.into_body(), BODY_BYTES).await.ok()?;
    let query = format!("/?{}", std::str::from_utf8(&body).ok()?);
    Query::try_from_uri(&query.parse().ok()?).ok().map(|Query(form)| form)
}

fn with_cookie(answer: Redirect, token: &str, seconds: u64, secure: bool) -> Response {
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    let mut response = answer.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
        cookie.set_sensitive(true);
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// `message` is ours, never a visitor's words.
fn page(status: StatusCode, message: &str) -> Response {
    let message = if message.is_empty() { String::new() } else { format!("<p role=\"alert\">{message}</p>") };
    let mut response = (status, PAGE.replace(MESSAGE, &message)).into_response();
    let headers = response.headers_mut();
    let plain = |text| HeaderValue::from_static(text);
    headers.insert(header::CONTENT_TYPE, plain("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, plain(POLICY));
    headers.insert(header::CACHE_CONTROL, plain("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, plain("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, plain("DENY"));
    // With `no-referrer` browsers say `Origin: null` to our own form, which the guard refuses.
    headers.insert(header::REFERRER_POLICY, plain("same-origin"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), plain("same-origin"));
    response
}
