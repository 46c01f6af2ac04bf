//! Whose word about a client's address the doors believe, as written.
//!
//! ```yaml
//! client_address:
//!   trusted_proxies: [10.0.0.0/8, "fd00::/8"]   # or their number: trusted_hops: 1
//!   field: x-forwarded-for                      # or forwarded (RFC 7239)
//! ```
//!
//! Not here: how the field is read ([`crate::policy::client_address`]).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::base::problems::{Problem, Problems};
use crate::policy::client_address::{Field, Proxies, Trust};

/// The `client_address` section as written. Left out, the client is who connects.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTrust {
    /// How many proxies are in front, counted from the right of the field.
    /// Default: 0.
    pub trusted_hops: u32,
    /// Networks and addresses of proxies; the client is the first from the right
    /// that is in none of them. Instead of `trusted_hops`. Default: none.
    pub trusted_proxies: Vec<String>,
    /// The field that the proxies write. Default: `x-forwarded-for`.
    pub field: Field,
}

impl RawTrust {
    /// Checks the section, which stands at `path`.
    ///
    /// # Errors
    /// Every problem, not the first one.
    pub fn check(&self, path: &str) -> Result<Trust, Problems> {
        let mut problems = Problems::default();
        let at = format!("{path}.trusted_proxies");
        let networks = networks(&at, &self.trusted_proxies, &mut problems);
        if self.trusted_hops > 0 && !self.trusted_proxies.is_empty() {
            let message =
                "say who the proxies are by `trusted_hops` or by `trusted_proxies`, not both";
            problems.add(Problem::new(format!("{path}.trusted_hops"), message));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let proxies = match self.trusted_proxies.is_empty() {
            true => Proxies::Hops(self.trusted_hops),
            false => Proxies::In(networks),
        };
        Ok(Trust { proxies, field: self.field })
    }
}

/// Reads a list of networks and addresses that stands at `path`.
pub fn networks(path: &str, written: &[String], problems: &mut Problems) -> Vec<IpNet> {
    let mut read = Vec::new();
    for (index, text) in written.iter().enumerate() {
        match network(text) {
            Some(network) => read.push(network),
            None => {
                let message = format!(
                    "`{text}` is not a network, such as 10.0.0.0/8 or fd00::/8, nor an address"
                );
                problems.add(Problem::new(format!("{path}[{index}]"), message));
            }
        }
    }
    read
}

fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(|it| IpNet::from(it.to_canonical()));
    text.parse::<IpNet>().ok().or_else(address)
}

#[cfg(test)]
mod tests {
    use crate::base::yaml;

    use super::*;

    fn check(yaml: &str) -> Result<Trust, String> {
        let read = yaml::read::<RawTrust>("weir.yaml", yaml);
        let raw = read.map_err(|problems| problems.to_string())?.value;
        raw.check("client_address").map_err(|problems| problems.to_string())
    }

    #[test]
    fn proxies_are_known_by_number_or_by_network() {
        assert_eq!(check("{}").unwrap(), Trust::default());
        assert_eq!(check("trusted_hops: 2").unwrap().proxies, Proxies::Hops(2));
        let trust = check("{ trusted_proxies: [10.0.0.0/8, '::1'], field: forwarded }").unwrap();
        assert_eq!(trust.field, Field::Forwarded);
        for (peer, is_proxy) in [("10.1.2.3", true), ("::1", true), ("11.0.0.1", false)] {
            assert_eq!(trust.believes(peer.parse().unwrap()), is_proxy, "{peer}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let told = check("{ trusted_hops: 1, trusted_proxies: [10.0.0.0/33, here] }").unwrap_err();
        assert_eq!(
            told,
            "client_address.trusted_proxies[0]: `10.0.0.0/33` is not a network, such as 10.0.0.0/8 or fd00::/8, nor an address\n\
             client_address.trusted_proxies[1]: `here` is not a network, such as 10.0.0.0/8 or fd00::/8, nor an address\n\
             client_address.trusted_hops: say who the proxies are by `trusted_hops` or by `trusted_proxies`, not both"
        );
        assert!(check("field: x-real-ip").unwrap_err().contains("x-forwarded-for"));
    }
}
