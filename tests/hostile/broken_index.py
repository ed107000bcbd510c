# An index beyond the end.
# gate: raised
# alone: raised
def revise_state(s):
    return s[1000]
