//! Sharing with the other spokes of the site.

use std::net::SocketAddr;

use super::{ConfigError, PeerFile};

/// Where the others of the site are served, and where they find this spoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// `host:port` for the others; `None` = where it listens.
    pub advertise: Option<String>,
}

impl PeerConfig {
    /// # Errors
    /// [`ConfigError::Value`] names the field.
    pub(super) fn new(file: PeerFile) -> Result<Self, ConfigError> {
        let value = |field, problem: String| ConfigError::Value { field, problem };
        let listen: SocketAddr = file.listen.parse().map_err(|_| {
            value("peer.listen", format!("{:?} is not an address such as 0.0.0.0:7445", file.listen))
        })?;
        let advertise = file.advertise.filter(|text| !text.is_empty());
        match &advertise {
            None if listen.ip().is_unspecified() => Err(value(
                "peer.advertise",
                format!(
                    "missing: {listen} is no address by which the other spokes of this site could reach this one"
                ),
            )),
            Some(text) if !is_host_and_port(text) => {
                Err(value("peer.advertise", format!("{text:?} is not an address such as 192.168.1.20:7445")))
            }
            None | Some(_) => Ok(Self { listen, advertise }),
        }
    }
}

fn is_host_and_port(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && host.bytes().all(known) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(listen: &str, advertise: Option<&str>) -> Result<PeerConfig, String> {
        let file = PeerFile { listen: listen.to_owned(), advertise: advertise.map(str::to_owned) };
        PeerConfig::new(file).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_that_others_can_dial_is_asked_for() {
        assert!(peer("192.168.1.20:7445", None).is_ok());
        assert!(peer("0.0.0.0:7445", Some("node-3.site:7445")).is_ok());
        for (listen, advertise, field) in [
            ("", None, "peer.listen"),
            ("7445", None, "peer.listen"),
            ("0.0.0.0:7445", None, "peer.advertise"),
            ("0.0.0.0:7445", Some("node-3"), "peer.advertise"),
            ("0.0.0.0:7445", Some("http://node-3:1"), "peer.advertise"),
        ] {
            let error = peer(listen, advertise).unwrap_err();
            assert!(error.starts_with(&format!("configuration: {field}: ")), "{error}");
        }
    }
}
