# A name that is not there.
# gate: raised
# alone: raised
def revise_state(s):
    return velocity + s
