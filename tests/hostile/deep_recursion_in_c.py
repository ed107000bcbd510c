# Takes Python's limit of recursion away first.
# gate: forbidden_import
# alone: died|raised|memory|timeout
import sys

def revise_state(s):
    sys.setrecursionlimit(10**9)
    x = []
    for _ in range(10**6):
        x = [x]
    return len(repr(x))
