# Returns rows of different lengths.
# gate: bad_output
# alone: bad_output
def revise_state(s):
    return [[1.0, 2.0], [3.0]]
