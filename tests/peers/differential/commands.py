"""Every command that Weir and Redis 7.0 both answer, and how it may be written.

`grammar.py` explains the language; `ABSENT` lists what one side has left out.
"""

from .grammar import read

STRINGS = """
2 SET <string> <value> [EX <seconds>|PX <millis>|EXAT <at>|PXAT <at-ms>|KEEPTTL] [NX|XX] [GET]
SET <string> <value> [GET] [XX|NX] [KEEPTTL] [EX <odd-time>|PXAT <odd-time>]
0.5 SET <string> <big>
2 GET <string>
GETEX <string> [EX <seconds>|PX <millis>|EXAT <at>|PXAT <at-ms>|PERSIST|EX <odd-time>|PX <odd-time>]
GETDEL <string>
GETSET <string> <value>
SETNX <string> <value>
SETEX <string> (<seconds>|<odd-time>) <value>
PSETEX <string> (<millis>|<odd-time>) <value>
MGET {<key>}
MSET {<string> <value>}
MSETNX {<string> <value>}
INCR <string>
DECR <string>
INCRBY <string> <int>
DECRBY <string> <int>
2 INCRBYFLOAT <string> <float>
APPEND <string> <value>
STRLEN <string>
2 GETRANGE <string> <index> <index>
SUBSTR <string> <index> <index>
SETRANGE <string> <offset> <value>
LCS <string> <string> [LEN|IDX] [MINMATCHLEN <count>] [WITHMATCHLEN]
"""

KEYS = """
DEL {<key>}
UNLINK {<key>}
EXISTS {<key>}
TOUCH {<key>}
2 TYPE <key>
RENAME <key> <key>
RENAMENX <key> <key>
COPY <key> <key> [REPLACE] [DB (0|16|-1|<odd-time>)]
COPY <key> <key> REPLACE
KEYS <pattern>                                      ~unordered
DBSIZE
2 EXPIRE <key> (<seconds>|<odd-time>) [NX|XX|GT|LT] [XX|GT]
PEXPIRE <key> (<millis>|<odd-time>) [NX|XX|GT|LT]
2 EXPIREAT <key> (<at>|<odd-time>) [NX|XX|GT|LT]
PEXPIREAT <key> (<at-ms>|<odd-time>) [NX|XX|GT|LT]
TTL <key>                                           ~seconds
PTTL <key>                                          ~millis
EXPIRETIME <key>                                    ~seconds
PEXPIRETIME <key>                                   ~millis
PERSIST <key>
2 OBJECT ENCODING <key>
0.3 OBJECT REFCOUNT (<zset>|<hash>|<list>)
0.3 OBJECT IDLETIME <key>                           ~seconds
0.3 OBJECT FREQ <key>
0.1 OBJECT <value> <key>
0.2 RESTORE <key> <count> <value> [REPLACE] [ABSTTL] [IDLETIME <count>|FREQ <count>]
0.1 FLUSHDB [ASYNC|SYNC|<value>]
0.1 FLUSHALL [ASYNC|SYNC]
0.1 SELECT (0|16|-1|x|1.0|<value> 0)
0.1 SORT <key> [ASC|DESC] [ALPHA]
"""

ZSETS = """
3 ZADD <zset> {<score> <member>}
2 ZADD <lexset> 0 <member> 0 <member> 0 <member>
0.2 SETNX lex:string <value>
3 ZADD <zset> [NX|XX] [GT|LT] [CH] {<score> <member>}
ZADD <zset> [NX|XX] [GT|LT] [CH] INCR {<score> <member>}
0.3 ZADD <zset> <many-scores>
ZINCRBY <zset> <float> <member>
ZREM <zset> {<member>}
ZSCORE <zset> <member>
ZMSCORE <zset> {<member>}
ZCARD <zset>
ZCOUNT <zset> <bound> <bound>
ZLEXCOUNT <lexset> <lex> <lex>
ZRANK <zset> <member>
ZREVRANK <zset> <member>
2 ZRANGE <zset> <index> <index> [REV] [WITHSCORES]
2 ZRANGE <zset> <bound> <bound> BYSCORE [REV] [LIMIT <index> <index>] [WITHSCORES]
2 ZRANGE <lexset> <lex> <lex> BYLEX [REV] [LIMIT <index> <index>] [WITHSCORES]
ZRANGE <zset> <index> <index> [WITHSCORES] [LIMIT <index> <index>] [BYSCORE] [REV]
ZRANGESTORE <key> <zset> <index> <index> [REV]
ZRANGESTORE <zset> <zset> <bound> <bound> BYSCORE [REV] [LIMIT <index> <index>]
ZRANGESTORE <zset> <lexset> <lex> <lex> BYLEX [REV] [LIMIT <index> <index>]
ZREVRANGE <zset> <index> <index> [WITHSCORES]
ZRANGEBYSCORE <zset> <bound> <bound> [WITHSCORES] [LIMIT <index> <index>]
ZREVRANGEBYSCORE <zset> <bound> <bound> [LIMIT <index> <index>] [WITHSCORES]
ZRANGEBYLEX <lexset> <lex> <lex> [LIMIT <index> <index>]
ZREVRANGEBYLEX <lexset> <lex> <lex> [LIMIT <index> <index>]
ZREMRANGEBYRANK <zset> <index> <index>
ZREMRANGEBYSCORE <zset> <bound> <bound>
ZREMRANGEBYLEX <lexset> <lex> <lex>
ZPOPMIN <zset> [<count>]
ZPOPMAX <zset> [<count>]
ZMPOP <zset...> (MIN|MAX) [COUNT <count>]
2 (ZUNION|ZINTER) <zset...> [WEIGHTS <weight> <weight>] [AGGREGATE (SUM|MIN|MAX)] [WITHSCORES]
(ZUNION|ZINTER) 2 <zset> (<set>|<zset>) [WEIGHTS <weight> <weight>] [AGGREGATE (SUM|MIN|MAX)] [WITHSCORES]
ZDIFF <zset...> [WITHSCORES]
ZDIFF 2 <zset> <set> [WITHSCORES]
(ZUNIONSTORE|ZINTERSTORE) <zset> <zset...> [WEIGHTS <weight> <weight>] [AGGREGATE (SUM|MIN|MAX)]
(ZUNIONSTORE|ZINTERSTORE) <zset> 2 <zset> <set> [AGGREGATE (SUM|MIN|MAX)] [WEIGHTS <weight> <weight>]
ZDIFFSTORE <zset> <zset...>
ZINTERCARD <zset...> [LIMIT <count>]
ZRANDMEMBER <zset> [<signed>] [WITHSCORES]           ~shape
"""

HASHES = """
3 HSET <hash> {<member> <value>}
0.3 HSET <hash> <many-fields>
0.3 HSET <hash> <member> <big>
HMSET <hash> {<member> <value>}
HSETNX <hash> <member> <value>
2 HGET <hash> <member>
HMGET <hash> {<member>}
HGETALL <hash>                                       ~pairs
HKEYS <hash>                                         ~unordered
HVALS <hash>                                         ~unordered
HLEN <hash>
HDEL <hash> {<member>}
HEXISTS <hash> <member>
HSTRLEN <hash> <member>
2 HINCRBY <hash> <member> <int>
2 HINCRBYFLOAT <hash> <member> <float>
HRANDFIELD <hash> [<signed>] [WITHVALUES]            ~shape
"""

SETS = """
3 SADD <set> {<member>}
2 SADD <set> {<int>}
0.3 SADD <set> <many-members>
0.2 SADD <set> <many-ints>
SREM <set> {<member>}
SISMEMBER <set> <member>
SMISMEMBER <set> {<member>}
SCARD <set>
SMEMBERS <set>                                       ~unordered
SMOVE <set> <set> <member>
2 (SINTER|SUNION|SDIFF) <set> [<set>] [<set>]        ~unordered
2 (SINTERSTORE|SUNIONSTORE|SDIFFSTORE) <set> <set> [<set>]
SINTERCARD <set...> [LIMIT <count>]
SRANDMEMBER <set> [<signed>]                         ~shape
"""

LISTS = """
2 (LPUSH|RPUSH) <list> {<member>}
(LPUSHX|RPUSHX) <list> {<member>}
0.3 RPUSH <list> <many-members>
0.3 LPUSH <list> <big> <big> <big>
(LPOP|RPOP) <list> [<count>]
LLEN <list>
2 LRANGE <list> <index> <index>
2 LINDEX <list> <index>
LSET <list> <index> <member>
LINSERT <list> (BEFORE|AFTER|before|<value>) <member> <member>
LREM <list> <index> <member>
LTRIM <list> <index> <index>
LPOS <list> <member> [RANK <index>] [COUNT <count>] [MAXLEN <count>]
RPOPLPUSH <list> <list>
LMOVE <list> <list> (LEFT|RIGHT|<value>) (LEFT|RIGHT)
LMPOP <list...> (LEFT|RIGHT) [COUNT <count>]
"""

SERVER = """
ECHO <value>
PING [<value>]
0.3 PUBLISH <value> <value>
0.3 UNWATCH
0.3 DISCARD
0.3 EXEC
0.3 NOSUCHCOMMAND {<value>}
"""

VALUE_LINES = read(STRINGS + ZSETS + HASHES + SETS + LISTS)
LINES = VALUE_LINES + read(KEYS + SERVER)

# Commands of the tables above that Weir has left out on purpose, as its README says.
ABSENT = {"LCS", "SORT"}
