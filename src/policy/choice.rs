//! Choices: which limits a request of a policy gets, by tier, override and list.
//!
//! In this order, and the first that speaks decides:
//!
//! 1. the list of those who are denied, the list of those who are not limited;
//! 2. an override that was set at run time ([`super::grant`]), then one of the file:
//!    of exactly this key, of the narrowest network that holds the client, then those
//!    that name sources, in their order;
//! 3. the tier;
//! 4. the limits of the policy.
//!
//! Lists and overrides of keys are looked up, not walked, so a hundred thousand
//! entries cost a request what one does.
//!
//! Not here: what a set of limits is ([`super::limit`]).

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

use super::RequestFacts;
use super::key::push_choice;
use super::source::{Claims, Source, Value};
use crate::base::clock::Timestamp;

/// What becomes of a request of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It is limited, by the set of this number; 0 is the policy's own.
    Limited(u32),
    /// It is not limited.
    Unlimited,
    /// It is refused.
    Denied,
}

/// Everything in a policy that treats requests differently.
#[derive(Debug, Default)]
pub(super) struct Choices {
    pub(super) deny: Option<List>,
    pub(super) allow: Option<List>,
    pub(super) overrides: Overrides,
    pub(super) tiers: Option<Tiers>,
}

impl Choices {
    /// Everything that it goes by.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Source> {
        let lists = self.deny.iter().chain(&self.allow).map(|list| &list.of);
        let tests = self.overrides.when.iter().flat_map(|(tests, _)| tests);
        let tests = tests.map(|test| &test.source);
        lists.chain(tests).chain(self.tiers.iter().map(|tiers| &tiers.by))
    }

    /// What the lists say, before anything else.
    pub(super) fn listed(
        &self,
        facts: &RequestFacts<'_>,
        claims: &Claims<'_>,
    ) -> Option<Treatment> {
        let holds =
            |list: &Option<List>| list.as_ref().is_some_and(|list| list.holds(facts, claims));
        if holds(&self.deny) {
            return Some(Treatment::Denied);
        }
        holds(&self.allow).then_some(Treatment::Unlimited)
    }

    /// What the lists of addresses say of a client, before anything else.
    pub(super) fn listed_client(&self, client: IpAddr) -> Option<Treatment> {
        let holds = |list: &Option<List>| {
            list.as_ref().is_some_and(|list| list.networks.get(client).is_some())
        };
        if holds(&self.deny) {
            return Some(Treatment::Denied);
        }
        holds(&self.allow).then_some(Treatment::Unlimited)
    }

    /// What goes by more than is known of a request whose key is, in words.
    pub(super) fn unseen(&self, knows_client: bool, knows_tier: bool) -> Vec<String> {
        let mut unseen = Vec::new();
        for (name, list) in [("deny", &self.deny), ("allow", &self.allow)] {
            let Some(List { of, .. }) = list else { continue };
            if !(knows_client && matches!(of, Source::ClientIp { .. })) {
                unseen.push(format!("the list `{name}`, which goes by {of}"));
            }
        }
        unseen.extend(self.overrides.unseen(knows_client));
        if let Some(tiers) = &self.tiers
            && !knows_tier
        {
            unseen.push(format!("tiers, which go by {}; ask with `?tier=NAME`", tiers.by));
        }
        unseen
    }

    /// What becomes of a request that no list and no override of run time speaks of.
    pub(super) fn treat(
        &self,
        key: &[u8],
        facts: &RequestFacts<'_>,
        claims: &Claims<'_>,
    ) -> Treatment {
        let moment = Timestamp::default();
        self.overrides
            .find(key, facts, claims, moment)
            .or_else(|| self.tiers.as_ref()?.choose(facts, claims))
            .unwrap_or(Treatment::Limited(0))
    }
}

/// An override: what becomes of whom it is for, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Override {
    pub(super) treatment: Treatment,
    /// Not in force from here on; those of a file never end.
    pub(super) ends: Option<Timestamp>,
}

impl Override {
    fn at(&self, moment: Timestamp) -> Option<Treatment> {
        self.ends.is_none_or(|ends| moment < ends).then_some(self.treatment)
    }
}

/// Overrides, by whom they are for.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    /// By rendered key.
    pub(super) exact: HashMap<Box<[u8]>, Override>,
    pub(super) networks: NetworkMap<Override>,
    pub(super) when: Vec<(Vec<Test>, Override)>,
}

impl Overrides {
    pub(super) fn find(
        &self,
        key: &[u8],
        facts: &RequestFacts<'_>,
        claims: &Claims<'_>,
        moment: Timestamp,
    ) -> Option<Treatment> {
        let holds = |tests: &[Test]| tests.iter().all(|test| test.holds(facts, claims));
        self.of_key(key, Some(facts.client), moment).or_else(|| {
            let mut of_tests = self.when.iter().filter(|(tests, _)| holds(tests));
            of_tests.find_map(|(_, it)| it.at(moment))
        })
    }

    /// What can be told by the key and the client's address alone.
    pub(super) fn of_key(
        &self,
        key: &[u8],
        client: Option<IpAddr>,
        moment: Timestamp,
    ) -> Option<Treatment> {
        let exact = self.exact.get(key).and_then(|it| it.at(moment));
        exact.or_else(|| self.networks.find(client?, |it| it.at(moment)))
    }
}

impl Overrides {
    /// As [`Choices::unseen`].
    pub(super) fn unseen(&self, knows_client: bool) -> Option<String> {
        let by_request = !self.when.is_empty() || !knows_client && !self.networks.is_empty();
        by_request.then(|| "overrides that go by more than the key".to_owned())
    }
}

/// Limits by a value: `free`, `pro`.
#[derive(Debug)]
pub(super) struct Tiers {
    pub(super) by: Source,
    pub(super) names: HashMap<Box<[u8]>, Treatment>,
}

impl Tiers {
    /// What a tier gives, by its name.
    pub(super) fn named(&self, name: &str) -> Option<Treatment> {
        self.names.get(name.as_bytes()).copied()
    }

    fn choose(&self, facts: &RequestFacts<'_>, claims: &Claims<'_>) -> Option<Treatment> {
        match self.by.of(facts, claims)? {
            Value::Text(text) => self.names.get(&*text).copied(),
            Value::Address(..) => None,
        }
    }
}

/// One demand of an override: a source that has a value, or lies in a network.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) source: Source,
    pub(super) wanted: Wanted,
}

/// What a test wants.
#[derive(Debug)]
pub(super) enum Wanted {
    Text(Box<[u8]>),
    Network(IpNet),
    /// `*`: any value.
    Any,
    /// No value: a later choice of a part is taken only then.
    Absent,
}

impl Test {
    fn holds(&self, facts: &RequestFacts<'_>, claims: &Claims<'_>) -> bool {
        match (self.source.of(facts, claims), &self.wanted) {
            (Some(Value::Text(found)), Wanted::Text(wanted)) => *found == **wanted,
            (Some(Value::Address(found, _)), Wanted::Network(wanted)) => wanted.contains(&found),
            (Some(_), Wanted::Any) | (None, Wanted::Absent) => true,
            _ => false,
        }
    }
}

/// A list of addresses and networks, or of values, from a file of its own.
#[derive(Debug)]
pub(super) struct List {
    pub(super) of: Source,
    networks: NetworkMap<()>,
    values: HashSet<Box<[u8]>>,
}

impl List {
    /// Reads a file of one entry a line; `#` begins a comment, at the beginning of a line
    /// or behind a blank. Elsewhere it is part of a value.
    ///
    /// # Errors
    /// The line, from 1, and what stands there that is no address or network.
    pub(super) fn read(of: Source, text: &str) -> Result<List, (usize, String)> {
        let mut list = List { of, networks: NetworkMap::default(), values: HashSet::new() };
        let is_of_addresses = matches!(list.of, Source::ClientIp { .. });
        // Some editors begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            let entry = without_comment(line).trim();
            if entry.is_empty() {
                continue;
            }
            if is_of_addresses {
                let network = network(entry).ok_or_else(|| (index + 1, entry.to_owned()))?;
                list.networks.insert(network, ());
            } else {
                list.values.insert(entry.as_bytes().into());
            }
        }
        Ok(list)
    }

    fn holds(&self, facts: &RequestFacts<'_>, claims: &Claims<'_>) -> bool {
        match self.of.of(facts, claims) {
            Some(Value::Address(address, _)) => self.networks.get(address).is_some(),
            Some(Value::Text(text)) => self.values.contains(&*text),
            None => false,
        }
    }
}

fn without_comment(line: &str) -> &str {
    let begins = |at: &usize| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
    let comment = line.match_indices('#').map(|(at, _)| at).find(begins);
    &line[..comment.unwrap_or(line.len())]
}

/// An address or a network as written; an address is a network of one, and addresses
/// of IPv4 within IPv6 are of IPv4, as a client's are.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let net = text.parse::<IpNet>().ok();
    let net = net.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?.trunc();
    let bits = net.prefix_len().checked_sub(128 - 32);
    match (net.addr().to_canonical(), bits) {
        (address @ IpAddr::V4(_), Some(bits)) if net.addr().is_ipv6() => {
            IpNet::new(address, bits).ok()
        }
        _ => Some(net),
    }
}

/// Values by network. The narrowest that holds an address answers, at a look-up
/// for each length of prefix that occurs.
#[derive(Debug)]
pub(super) struct NetworkMap<T> {
    /// Lengths that occur, the longest first, with the networks of that length by
    /// their leading bits.
    v4: Vec<(u8, HashMap<u32, T>)>,
    v6: Vec<(u8, HashMap<u128, T>)>,
}

impl<T> Default for NetworkMap<T> {
    fn default() -> NetworkMap<T> {
        NetworkMap { v4: Vec::new(), v6: Vec::new() }
    }
}

impl<T> NetworkMap<T> {
    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Adds a network. What was there before is replaced, and returned.
    pub(super) fn insert(&mut self, network: IpNet, value: T) -> Option<T> {
        match network {
            IpNet::V4(net) => {
                by_length(&mut self.v4, net.prefix_len()).insert(net.network().to_bits(), value)
            }
            IpNet::V6(net) => {
                by_length(&mut self.v6, net.prefix_len()).insert(net.network().to_bits(), value)
            }
        }
    }

    /// The value of the narrowest network that holds `address`.
    pub(super) fn get(&self, address: IpAddr) -> Option<&T> {
        self.walk(address).next()
    }

    /// What `choose` makes of the narrowest network that holds `address` and of which
    /// it makes something.
    fn find<C>(&self, address: IpAddr, choose: impl Fn(&T) -> Option<C>) -> Option<C> {
        self.walk(address).find_map(choose)
    }

    /// The networks that hold `address`, the narrowest first.
    fn walk(&self, address: IpAddr) -> impl Iterator<Item = &T> {
        let (v4, v6) = match address.to_canonical() {
            IpAddr::V4(address) => (Some(address.to_bits()), None),
            IpAddr::V6(address) => (None, Some(address.to_bits())),
        };
        let of_v4 = v4.into_iter().flat_map(|bits| {
            self.v4.iter().filter_map(move |(length, networks)| {
                let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
                networks.get(&(bits & mask))
            })
        });
        let of_v6 = v6.into_iter().flat_map(|bits| {
            self.v6.iter().filter_map(move |(length, networks)| {
                let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
                networks.get(&(bits & mask))
            })
        });
        of_v4.chain(of_v6)
    }
}

fn by_length<K, T>(lengths: &mut Vec<(u8, HashMap<K, T>)>, length: u8) -> &mut HashMap<K, T> {
    let at = match lengths.iter().position(|(it, _)| *it <= length) {
        Some(at) if lengths[at].0 == length => at,
        Some(at) => {
            lengths.insert(at, (length, HashMap::new()));
            at
        }
        None => {
            lengths.push((length, HashMap::new()));
            lengths.len() - 1
        }
    };
    &mut lengths[at].1
}

/// The key that an override names by the value of a choice for each part, rendered as a
/// request's is.
pub(super) fn rendered(values: &[(usize, Value<'_>)]) -> Box<[u8]> {
    let mut key = Vec::new();
    for (index, (choice, value)) in values.iter().enumerate() {
        if index > 0 {
            key.push(b'|');
        }
        push_choice(*choice, value, &mut key);
    }
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_narrowest_network_that_holds_an_address_answers() {
        let mut map = NetworkMap::default();
        let networks = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3",
            "2001:db8::/32",
            "::/0",
            "10.1.2.3/32",
            "::ffff:10.2.0.0/112",
        ];
        for (number, text) in networks.iter().enumerate() {
            map.insert(network(text).unwrap(), number);
        }
        for (client, expected) in [
            ("192.0.2.1", 0),
            ("10.9.9.9", 1),
            ("10.1.9.9", 2),
            ("10.1.2.3", 6),
            ("10.2.3.4", 7),
            ("::ffff:10.9.9.9", 1),
            ("2001:db8:1::", 4),
            ("2001:db9::", 5),
        ] {
            assert_eq!(map.get(address(client)), Some(&expected), "{client}");
        }
        assert_eq!(NetworkMap::<()>::default().get(address("::1")), None);
    }

    #[test]
    fn a_list_says_which_line_is_no_address() {
        let of = || Source::ClientIp { prefix: 64 };
        let text = "# partners\n192.0.2.0/24\n\n2001:db8::1  # an office\n";
        assert!(List::read(of(), text).is_ok());
        let told = List::read(of(), "192.0.2.1\nexample.com\n").unwrap_err();
        assert_eq!(told, (2, "example.com".to_owned()));
    }

    #[test]
    fn a_comment_begins_behind_a_blank_and_not_within_a_value() {
        let text = "#GET\n  # PUT\na#b\nc # d\ne\t#f\n#\n g# #h\n\u{e9}#\u{e9}\n";
        let list = List::read(Source::Method, text).unwrap();
        let mut values: Vec<&str> =
            list.values.iter().map(|it| std::str::from_utf8(it).unwrap()).collect();
        values.sort_unstable();
        assert_eq!(values, ["a#b", "c", "e", "g#", "\u{e9}#\u{e9}"]);
        // An address holds none, so that what looks like a comment is told.
        let told = List::read(Source::ClientIp { prefix: 64 }, "192.0.2.1#office").unwrap_err();
        assert_eq!(told, (1, "192.0.2.1#office".to_owned()));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_entry() {
        let list = List::read(Source::Method, "\u{feff}GET\nPUT\n").unwrap();
        assert!(list.values.contains(&b"GET"[..]) && list.values.len() == 2);
    }
}
