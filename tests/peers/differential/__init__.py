"""Random commands to Weir and to a real redis-server: same replies, same state.

    commands.py   what a command may look like, as data
    values.py     what its arguments may be
    grammar.py    the language of the two
    judges.py     when two replies count as the same
    steps.py      commands that belong together: transactions, scans, deadlines
    pair.py       the two servers, a run, and the first difference
    shrink.py     the shortest run that still differs
    __main__.py   a long run by hand, with a seed
"""
