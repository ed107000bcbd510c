# Forgets to return.
# gate: bad_output
# alone: bad_output
def revise_state(s):
    s + 1
