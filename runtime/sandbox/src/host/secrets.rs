//! `secrets`: what a tenant keeps for packs that it trusts with it.

use vivarium_protocol::permission::Permission;

use super::{
    HostState,
    state::{clean, to_guest},
};
use crate::bindings::vivarium::node::{
    secrets,
    types::{Error, ErrorKind},
};

impl secrets::Host for HostState {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<String, Error>> {
        Ok(self.secret(name))
    }
}

impl HostState {
    fn secret(&mut self, name: String) -> Result<String, Error> {
        self.require(&Permission::Secret { name: name.clone() })?;
        match self.call.services.secret(&name) {
            Ok(Some(secret)) => {
                self.charge_transfer(secret.len() as u64)?;
                self.secrets.push(secret.clone());
                Ok(secret)
            }
            Ok(None) => {
                let name = clean(&name, 100);
                let message = format!("there is no secret {name:?}; `vivarium pack secret set {name}` makes it");
                Err(Error { kind: ErrorKind::NotFound, message })
            }
            Err(error) => Err(to_guest(&error)),
        }
    }
}

/// What stands in the place of a secret that a node would have shown.
const REMOVED: &str = "[secret]";

/// A text without the secrets that its node has read, in their own form and as JSON writes them.
pub(crate) fn redact(text: String, secrets: &[String]) -> String {
    secrets.iter().fold(text, |text, secret| {
        let text = text.replace(secret.as_str(), REMOVED);
        let escaped = serde_json::Value::from(secret.as_str()).to_string();
        text.replace(escaped.trim_matches('"'), REMOVED)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_removed_also_where_json_escaped_it() {
        let secrets = ["a\"b\\c-long".to_owned()];
        let text = format!("plain {} json {}", secrets[0], serde_json::json!(secrets[0]));
        assert_eq!(redact(text, &secrets), "plain [secret] json \"[secret]\"");
        assert_eq!(redact("nothing".into(), &[]), "nothing");
    }
}
