//! Requests for the tests of this room.

use std::net::{IpAddr, Ipv4Addr};

use super::{Headers, RequestFacts};

/// For policy files that name no other file.
pub(super) fn no_files(_path: &str) -> Result<Vec<u8>, String> {
    Err("there are no files here".to_owned())
}

/// A request without header fields.
pub(super) struct NoHeaders;

impl Headers for NoHeaders {
    fn get<'h>(&'h self, _name: &str) -> Option<&'h [u8]> {
        None
    }
}

/// Header fields by lower-case name.
pub(super) struct Pairs<'a>(pub(super) &'a [(&'a str, &'a [u8])]);

impl Headers for Pairs<'_> {
    fn get<'h>(&'h self, name: &str) -> Option<&'h [u8]> {
        self.0.iter().find(|(it, _)| *it == name).map(|(_, value)| *value)
    }
}

impl<'a> RequestFacts<'a> {
    /// A GET of `path` on `example.com` from 203.0.113.7.
    pub(super) fn for_tests(path: &'a str) -> RequestFacts<'a> {
        RequestFacts {
            method: "GET",
            host: "example.com",
            path,
            query: "",
            client: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
            headers: &NoHeaders,
            body_bytes: None,
            descriptors: &[],
        }
    }
}
