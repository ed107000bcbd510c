# One instruction that does not come back: no exception can interrupt it.
# gate: timeout
# alone: timeout
def revise_state(s):
    n = 9
    return float((n ** n ** n) % 7)
