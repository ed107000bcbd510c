# A name that is not there.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    return velocity + s
