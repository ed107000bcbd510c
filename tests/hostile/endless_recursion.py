# Calls itself.
# gate: raised
# alone: raised
def revise_state(s):
    return revise_state(s)
