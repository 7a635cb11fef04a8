//! The form of join tokens and of the Secrets that stand for them: what the CLI creates and the hub redeems.
//!
//! A token is `<id>.<secret>`; the Secret `nave-token-<id>` holds a hash of the secret part only.

/// `type` of a join token's Secret.
pub const SECRET_TYPE: &str = "nave.dev/join-token";
/// The label, value `true`, by which token Secrets are listed.
pub const LABEL: &str = "nave.dev/join-token";
/// What a token Secret's name begins with; the token's id follows.
pub const SECRET_NAME_PREFIX: &str = "nave-token-";
/// Data key: SHA-256 of the secret part, hex.
pub const HASH_KEY: &str = "hash";
/// Data key: when the token ends, RFC 3339.
pub const EXPIRES_AT_KEY: &str = "expiresAt";
/// Data key: how many spokes may still join with it; empty = any number.
pub const USES_KEY: &str = "uses";
/// Data key: the only cluster name that may join with it; absent = any.
pub const CLUSTER_KEY: &str = "cluster";
/// Data key: `true` = whoever joins with it is accepted at once.
pub const AUTO_ACCEPT_KEY: &str = "autoAccept";
/// Characters of the id.
pub const ID_LENGTH: usize = 8;
/// Characters of the secret part at least: 32 of an alphabet of 36 hold 165 bits.
pub const SECRET_LENGTH: usize = 32;

/// A token's two parts. `Debug` does not show the secret one.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: String,
    secret: String,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a text is not a token. Nothing of the text is repeated: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "malformed join token: expected 8 lower-case letters and digits, a dot, and at least 32 letters and digits"
)]
pub struct MalformedToken;

impl JoinToken {
    /// Takes a token's text apart; white space around it is left out.
    ///
    /// # Errors
    /// [`MalformedToken`] where it has another form.
    pub fn parse(text: &str) -> Result<Self, MalformedToken> {
        let (id, secret) = text.trim().split_once('.').ok_or(MalformedToken)?;
        Self::from_parts(id, secret)
    }

    /// Puts a token together.
    ///
    /// # Errors
    /// [`MalformedToken`] where a part has another form.
    pub fn from_parts(id: &str, secret: &str) -> Result<Self, MalformedToken> {
        let id_holds = id.len() == ID_LENGTH
            && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let secret_holds =
            secret.len() >= SECRET_LENGTH && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if id_holds && secret_holds {
            Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
        } else {
            Err(MalformedToken)
        }
    }

    /// The public part, which names the Secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name of its Secret.
    pub fn secret_name(&self) -> String {
        format!("{SECRET_NAME_PREFIX}{}", self.id)
    }

    /// What the Secret holds under [`HASH_KEY`]: SHA-256 of the secret part, hex.
    pub fn hash(&self) -> String {
        nave_names::Digest::of(self.secret.as_bytes()).to_hex()
    }

    /// The text that is handed to the site. Whoever has it can join.
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_apart_and_put_together() {
        let text = "abcd1234.0123456789abcdef0123456789abcdef";
        let token = JoinToken::parse(&format!(" {text}\n")).unwrap();
        assert_eq!(token.secret_name(), "nave-token-abcd1234");
        assert_eq!(token.reveal(), text);
        assert_eq!(token.hash().len(), 64);
        assert!(!format!("{token:?}").contains("0123456789"));
    }

    #[test]
    fn other_forms_are_refused_without_repeating_them() {
        for bad in ["", "abcd1234", "ABCD1234.0123456789abcdef0123456789abcdef", "abcd1234.short", "a/b.x"] {
            let error = JoinToken::parse(bad).unwrap_err().to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }
}
