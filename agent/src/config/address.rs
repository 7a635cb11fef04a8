//! Where the hub is.

/// Where the hub listens unless an address says.
const DEFAULT_HUB_PORT: u16 = 7443;

/// `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubAddress {
    /// Name or IP address; no brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl std::str::FromStr for HubAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fail = || format!("{text:?} is not an address such as hub.example.com:7443");
        let text_ = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = match text_.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().map_err(|_| fail())?)
            }
            Some(_) | None => (text_, DEFAULT_HUB_PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_host = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'_'));
        if is_host { Ok(Self { host: host.to_owned(), port }) } else { Err(fail()) }
    }
}

impl std::fmt::Display for HubAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_port() {
        for (text, shown) in [
            ("hub.example.com", "hub.example.com:7443"),
            ("10.0.0.1:99", "10.0.0.1:99"),
            ("[::1]:99", "[::1]:99"),
            ("https://hub:7443/", "hub:7443"),
        ] {
            assert_eq!(text.parse::<HubAddress>().unwrap().to_string(), shown);
        }
        for bad in ["", ":1", "hub:x", "a b:1", "hub/path"] {
            assert!(bad.parse::<HubAddress>().is_err(), "{bad}");
        }
    }
}
