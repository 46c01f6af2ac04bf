"""The textbook recipes for which people keep a Redis, as their users know them.
Each is played to Weir and to a redis-server."""

from resp import Connection, encode
from transcript import spec

FREE = """EVAL "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0" 1"""
WRITE = """EVAL "if tonumber(ARGV[1]) < tonumber(redis.call('get', KEYS[2]) or 0) then return redis.error_reply('STALE token') end redis.call('set', KEYS[2], ARGV[1]) return redis.call('set', KEYS[1], ARGV[2])" 2"""


def test_incr_then_expire_leaves_an_immortal_key_when_the_client_dies_between(server):
    spec(server, """
        ann  INCR attempts:ann   -> 1
        ann  dies                            # before its EXPIRE
        bob  TTL attempts:ann    -> -1       # nobody will ever forget this
    """)


def test_set_with_ex_and_nx_then_incr_does_not(server):
    spec(server, """
        ann  SET attempts:ann 0 EX 60 NX  -> OK
        ann  dies
        bob  TTL attempts:ann             -> 1..60
        bob  SET attempts:ann 0 EX 60 NX  -> nil    # the window stays as it began
        bob  INCR attempts:ann            -> 1
        bob  TTL attempts:ann             -> 1..60
    """)


def test_expire_nx_starts_a_window_once(server):
    spec(server, """
        ann  MULTI                     -> OK
        ann  INCR attempts:ann         -> QUEUED
        ann  EXPIRE attempts:ann 60 NX -> QUEUED
        ann  EXEC                      -> [1, 1]
        bob  MULTI                     -> OK
        bob  INCR attempts:ann         -> QUEUED
        bob  EXPIRE attempts:ann 60 NX -> QUEUED
        bob  EXEC                      -> [2, 0]
    """)


def test_a_lock_is_taken_once_and_freed_by_its_owner_only(server):
    spec(server, f"""
        ann  SET lock:till ann-1 NX PX 10000  -> OK
        bob  SET lock:till bob-1 NX PX 10000  -> nil
        bob  {FREE} lock:till bob-1           -> 0      # a stranger
        bob  GET lock:till                    -> ann-1
        ann  {FREE} lock:till ann-1           -> 1
        bob  SET lock:till bob-2 NX PX 10000  -> OK
    """)


def test_a_lock_whose_owner_is_late_is_not_taken_from_the_next(server):
    spec(server, f"""
        ann  SET lock:till ann-1 NX PX 20     -> OK
        wait 40ms
        bob  SET lock:till bob-1 NX PX 10000  -> OK
        ann  {FREE} lock:till ann-1           -> 0
        bob  GET lock:till                    -> bob-1
        ann  DEL lock:till                    -> 1      # what the script is there to prevent
        bob  GET lock:till                    -> nil
    """)


def test_a_fencing_token_only_rises_and_an_old_one_is_refused(server):
    spec(server, f"""
        ann  SET lock:file ann NX PX 20       -> OK
        ann  INCR fence:file                  -> 1
        wait 40ms                                       # ann is paused, her lock runs out
        bob  SET lock:file bob NX PX 10000    -> OK
        bob  INCR fence:file                  -> 2
        bob  {WRITE} file fence:seen 2 by-bob -> OK
        ann  {WRITE} file fence:seen 1 by-ann -> error STALE token
        ann  GET file                         -> by-bob
        ann  INCR fence:file                  -> 3
    """)


def test_a_request_is_carried_out_once_however_often_it_is_sent(server):
    spec(server, """
        ann  SET idem:7f3a pending NX GET EX 86400      -> nil       # the first to claim it
        bob  SET idem:7f3a pending NX GET EX 86400      -> pending   # a retry: somebody is at it
        ann  SET idem:7f3a "201 order 17" XX KEEPTTL    -> OK
        bob  SET idem:7f3a pending NX GET EX 86400      -> 201 order 17
        bob  TTL idem:7f3a                              -> 86000..86400
    """)


def test_getex_prolongs_a_session_while_it_reads_it(server):
    spec(server, """
        ann  SET session:ann token EX 10  -> OK
        ann  GETEX session:ann EX 1000    -> token
        ann  TTL session:ann              -> 990..1000
        ann  GETEX session:ann            -> token
        ann  TTL session:ann              -> 990..1000
        ann  GETEX session:ann PERSIST    -> token
        ann  TTL session:ann              -> -1
        ann  GETEX session:bob EX 1000    -> nil
    """)


def test_a_token_for_one_use_is_used_once(server):
    spec(server, """
        ann  SET reset:ann 9c1f EX 600  -> OK
        ann  GETDEL reset:ann           -> 9c1f
        eve  GETDEL reset:ann           -> nil
    """)


def test_a_watched_key_that_changes_undoes_the_transaction(server):
    spec(server, """
        ann  SET stock 1     -> OK
        ann  WATCH stock     -> OK
        ann  GET stock       -> 1
        bob  DECR stock      -> 0        # bob buys the last one
        ann  MULTI           -> OK
        ann  DECR stock      -> QUEUED
        ann  EXEC            -> nil
        ann  GET stock       -> 0
        ann  WATCH stock     -> OK       # and again, undisturbed
        ann  MULTI           -> OK
        ann  INCRBY stock 5  -> QUEUED
        ann  EXEC            -> [5]
    """)


def test_a_transaction_with_a_command_that_is_none_changes_nothing(server):
    spec(server, """
        ann  MULTI      -> OK
        ann  SET a 1    -> QUEUED
        ann  SET a      -> error ERR wrong number of arguments for 'set' command
        ann  EXEC       -> error EXECABORT Transaction discarded because of previous errors.
        ann  EXISTS a   -> 0
        ann  MULTI      -> OK
        ann  SET a x    -> QUEUED
        ann  INCR a     -> QUEUED
        ann  SET b 1    -> QUEUED      # runs, whatever became of the one before
        ann  EXEC       -> [OK, error ERR value is not an integer or out of range, OK]
    """)


def test_a_sliding_window_in_one_transaction(server):
    spec(server, """
        ann  ZADD hits:ann 1000 a 2000 b 11500 c       -> 3
        ann  MULTI                                     -> OK
        ann  ZREMRANGEBYSCORE hits:ann -inf (2000      -> QUEUED
        ann  ZCARD hits:ann                            -> QUEUED
        ann  ZADD hits:ann 12000 d                     -> QUEUED
        ann  PEXPIRE hits:ann 10000                    -> QUEUED
        ann  EXEC                                      -> [1, 2, 1, 1]
        ann  ZRANGE hits:ann 0 0 WITHSCORES            -> [b, 2000]
        ann  PTTL hits:ann                             -> 9000..10000
    """)


def test_a_best_score_only_rises(server):
    spec(server, """
        ann  ZADD best GT CH 100 ann    -> 1
        ann  ZADD best GT CH 90 ann     -> 0
        ann  ZADD best GT CH 110 ann    -> 1
        ann  ZADD best 120 bob          -> 1
        ann  ZREVRANGE best 0 -1 WITHSCORES -> [bob, 120, ann, 110]
        ann  ZREVRANK best ann          -> 1
    """)


def test_a_waiting_client_hears_that_a_lock_came_free(server):
    spec(server, """
        ann  CONFIG SET notify-keyspace-events Kg$x  -> OK
        bob  SUBSCRIBE __keyspace@0__:lock           -> [subscribe, __keyspace@0__:lock, 1]
        ann  SET lock ann NX PX 10000                -> OK
        bob  hears                                   -> [message, __keyspace@0__:lock, set]
        bob  hears                                   -> [message, __keyspace@0__:lock, expire]
        ann  DEL lock                                -> 1
        bob  hears                                   -> [message, __keyspace@0__:lock, del]
        ann  CONFIG SET notify-keyspace-events Kx    -> OK
        ann  SET lock ann NX PX 20                   -> OK
        bob  hears                                   -> [message, __keyspace@0__:lock, expired]
    """)


def test_a_hundred_commands_in_one_write_are_answered_in_order(server):
    with Connection(server.address) as client:
        client.write(b"".join(encode(["INCR", "n"]) for _ in range(100)))
        assert client.frames(100) == [(":", i) for i in range(1, 101)]


def test_a_command_may_arrive_byte_by_byte(server):
    with Connection(server.address) as client:
        for byte in encode(["SET", "k", "a\r\nb"]) + b"GET k\r\n":
            client.write(bytes([byte]))
        assert client.frames(2) == [("+", b"OK"), ("$", b"a\r\nb")]
