//! Commands of Redis that are left out on purpose: each is refused with a reason,
//! so that nobody looks for a mistake of his own.

/// Kinds of commands that are left out, and their names.
const ABSENT: [(&str, &str); 8] = [
    (
        "streams",
        "xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup xrevrange xsetid xtrim",
    ),
    (
        "geo commands",
        "geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch geosearchstore",
    ),
    ("HyperLogLog", "pfadd pfcount pfdebug pfmerge pfselftest"),
    ("bitmaps", "bitcount bitfield bitfield_ro bitop bitpos getbit setbit"),
    ("blocking commands", "blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin"),
    ("several databases", "move swapdb"),
    ("modules", "module"),
    (
        "cluster and replication",
        "asking cluster failover migrate psync readonly readwrite replconf replicaof restore-asking slaveof sync",
    ),
];

/// What is said of a command that is left out.
pub fn reason(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    let (kind, _) = ABSENT.iter().find(|(_, names)| names.split(' ').any(|it| it == name))?;
    Some(format!("unknown command '{name}': Weir leaves out {kind} on purpose"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_with_its_kind() {
        let reason = reason(b"XADD").unwrap();
        assert_eq!(reason, "unknown command 'xadd': Weir leaves out streams on purpose");
        assert_eq!(super::reason(b"get"), None);
    }

    #[test]
    fn nothing_that_is_left_out_stands_in_the_table() {
        for name in ABSENT.iter().flat_map(|(_, names)| names.split(' ')) {
            assert!(crate::keyspace::command(name.as_bytes()).is_none(), "{name}");
        }
    }
}
