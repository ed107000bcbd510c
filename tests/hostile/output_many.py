# Returns a thousand arrays.
# gate: bad_output
# alone: bad_output
def revise_state(s):
    return tuple([s] * 1000)
