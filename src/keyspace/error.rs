//! Why a command was refused, in Redis' words.

/// A command's failure. `Display` is the error line of Redis 7.0 with its code,
/// without the leading dash. A command that fails has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The key holds another kind of value.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// Too few or too many arguments for the command named.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    /// Too few or too many arguments for a subcommand.
    #[error("ERR wrong number of arguments for '{0}|{1}' command")]
    SubcommandArity(&'static str, &'static str),
    /// The same, of one that Redis tells from an unknown one only by its words.
    #[error(
        "ERR unknown subcommand or wrong number of arguments for '{part}'. Try {} HELP.",
        command.to_ascii_uppercase()
    )]
    SubcommandUse {
        /// The command.
        command: &'static str,
        /// The subcommand.
        part: &'static str,
    },
    /// The first argument of a command should name a subcommand.
    #[error("ERR unknown subcommand '{word}'. Try {} HELP.", command.to_ascii_uppercase())]
    UnknownSubcommand {
        /// The command.
        command: &'static str,
        /// What was given.
        word: String,
    },
    /// `OBJECT FREQ` under a policy that does not count uses.
    #[error(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note \
         that when switching between policies at runtime LRU and LFU data will take some time to \
         adjust."
    )]
    FrequencyNotTracked,
    /// `OBJECT IDLETIME` under a policy that counts uses.
    #[error(
        "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when \
         switching between policies at runtime LRU and LFU data will take some time to adjust."
    )]
    IdleTimeNotTracked,
    /// Nothing may be written, because it could not be remembered; says why.
    #[error("MISCONF {0}")]
    WritesDenied(Box<str>),
    /// The arguments do not fit together.
    #[error("ERR syntax error")]
    Syntax,
    /// An argument, or a stored value, is no 64-bit integer.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// An argument is no double.
    #[error("ERR value is not a valid float")]
    NotFloat,
    /// A bound of a range of scores is no double.
    #[error("ERR min or max is not a float")]
    RangeNotFloat,
    /// A bound of a range of members begins with neither `[` nor `(`.
    #[error("ERR min or max not valid string range item")]
    RangeNotString,
    /// A weight is no double.
    #[error("ERR weight value is not a float")]
    WeightNotFloat,
    /// A command on many sets was given none.
    #[error("ERR at least 1 input key is needed for '{0}' command")]
    NoInputKey(&'static str),
    /// Less than one of what is named.
    #[error("ERR {0} should be greater than 0")]
    NotAboveZero(&'static str),
    /// `ZRANGE … BYLEX WITHSCORES`.
    #[error("ERR syntax error, WITHSCORES not supported in combination with BYLEX")]
    ScoresByLex,
    /// The key must exist and does not.
    #[error("ERR no such key")]
    NoSuchKey,
    /// A deadline that is not positive where it must be, or overflows.
    #[error("ERR invalid expire time in '{0}' command")]
    InvalidExpire(&'static str),
    /// The sum leaves the 64-bit integers.
    #[error("ERR increment or decrement would overflow")]
    IncrementOverflow,
    /// `DECRBY` with the one amount that has no negative.
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    /// `INCRBYFLOAT` that ends at infinity, or at no number.
    #[error("ERR increment would produce NaN or Infinity")]
    IncrementNotFinite,
    /// `HINCRBY` of a field that holds something else.
    #[error("ERR hash value is not an integer")]
    HashValueNotInteger,
    /// `HINCRBYFLOAT` of a field that holds something else.
    #[error("ERR hash value is not a float")]
    HashValueNotFloat,
    /// `HINCRBYFLOAT` by an infinite amount.
    #[error("ERR value is NaN or Infinity")]
    NotFinite,
    /// `LSET` of an index that the list does not have.
    #[error("ERR index out of range")]
    IndexOutOfRange,
    /// `LPOS … RANK 0`.
    #[error(
        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
         or use negative to start from the end of the list"
    )]
    RankZero,
    /// An argument that must not be negative and is.
    #[error("ERR {0} can't be negative")]
    Negative(&'static str),
    /// More keys are promised than there are arguments.
    #[error("ERR Number of keys can't be greater than number of args")]
    TooManyKeys,
    /// `SETRANGE` before the first byte.
    #[error("ERR offset is out of range")]
    OffsetOutOfRange,
    /// A cursor that no scan has given.
    #[error("ERR invalid cursor")]
    InvalidCursor,
    /// `COPY` of a key to itself.
    #[error("ERR source and destination objects are the same")]
    SameObject,
    /// An integer, but not one that this argument may be.
    #[error("ERR value is out of range, value must between {0} and {1}")]
    NotWithin(i64, i64),
    /// A count that is negative.
    #[error("ERR value is out of range, must be positive")]
    NotPositive,
    /// A count whose double overflows.
    #[error("ERR value is out of range")]
    OutOfRange,
    /// A string would become longer than a string may be.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    /// `inf` plus `-inf`.
    #[error("ERR resulting score is not a number (NaN)")]
    ScoreNotNumber,
    /// `ZADD … NX XX`.
    #[error("ERR XX and NX options at the same time are not compatible")]
    XxWithNx,
    /// `ZADD … GT LT` or either with `NX`.
    #[error("ERR GT, LT, and/or NX options at the same time are not compatible")]
    GtLtNxTogether,
    /// `ZADD … INCR` with more than one element.
    #[error("ERR INCR option supports a single increment-element pair")]
    IncrementOfMany,
    /// `EXPIRE … NX` with another condition.
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    ExpireNxWithOthers,
    /// `EXPIRE … GT LT`.
    #[error("ERR GT and LT options at the same time are not compatible")]
    ExpireGtWithLt,
    /// `EXPIRE` with a word it does not know.
    #[error("ERR Unsupported option {0}")]
    UnsupportedOption(String),
    /// `ZRANGE … LIMIT` by index.
    #[error(
        "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
    )]
    LimitByIndex,
    /// The keyspace was asked for a command that others run.
    #[error("ERR '{0}' cannot be run here")]
    Elsewhere(&'static str),
    /// `SELECT` of a database other than 0.
    #[error("ERR DB index is out of range")]
    DatabaseOutOfRange,
    /// `RESTORE` of a key that is there.
    #[error("BUSYKEY Target key name already exists.")]
    BusyKey,
    /// `RESTORE` with a time to live below 0.
    #[error("ERR Invalid TTL value, must be >= 0")]
    InvalidTtl,
    /// `RESTORE … IDLETIME` below 0.
    #[error("ERR Invalid IDLETIME value, must be >= 0")]
    InvalidIdleTime,
    /// `RESTORE … FREQ` that is no byte.
    #[error("ERR Invalid FREQ value, must be >= 0 and <= 255")]
    InvalidFrequency,
    /// `RESTORE` of a payload of a later version, or whose bytes changed.
    #[error("ERR DUMP payload version or checksum are wrong")]
    PayloadChecksum,
    /// `RESTORE` of a payload that holds no value.
    #[error("ERR Bad data format")]
    PayloadFormat,
    /// `DEBUG RELOAD` with an option that Redis does not know.
    #[error("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")]
    ReloadOption,
    /// `DEBUG RELOAD NOSAVE`.
    #[error("ERR DEBUG RELOAD works in memory: without saving there is nothing to load")]
    ReloadWithoutSave,
}
