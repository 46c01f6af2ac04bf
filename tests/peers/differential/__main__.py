"""A long run by hand.

    cd tests/peers
    python -m differential --seed 7 --commands 5000000 HOST:PORT REDIS_HOST:PORT
    python -m differential --seed 7 --policy allkeys-lru --episode 31 ...   the same failure again

Prints each kind of difference once, shrunk, and goes on; exits 1 if there was one.
"""

import argparse
import sys
import time

from .hunt import POLICIES, Hunt


def address(text):
    host, _, port = text.rpartition(":")
    return (host or "127.0.0.1", int(port))


def main():
    parser = argparse.ArgumentParser(prog="differential", description=__doc__)
    parser.add_argument("weir", type=address)
    parser.add_argument("redis", type=address)
    parser.add_argument("--seed", default=str(int(time.time())))
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--episode", type=int, help="only this one")
    parser.add_argument("--policy", choices=POLICIES, default=POLICIES[0], help="of maxmemory")
    parser.add_argument("--differences", type=int, default=50, help="stop after so many kinds")
    options = parser.parse_args()
    hunt = Hunt(options.weir, options.redis, options.seed, options.policy)
    started = time.monotonic()
    episodes = [options.episode] if options.episode is not None else None
    for report in hunt.reports(options.commands, episodes):
        print(report, flush=True)
        if len(hunt.known) >= options.differences:
            break
    took = time.monotonic() - started
    print(f"seed {options.seed}, {options.policy}: {hunt.command_count} commands in {took:.0f} s, {len(hunt.known)} kinds of difference")
    sys.exit(1 if hunt.known else 0)


if __name__ == "__main__":
    main()
