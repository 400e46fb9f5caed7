"""The services that are compared: the same handlers, run by different libraries on different connections.

    python -m benchmarks.services KIND URL ENDPOINTS [uvloop]

Each is a module that imports what it needs and nothing else, and runs alone in a process: what that has in memory is to
be the contender's.
"""
