# Returns an array of objects.
# gate: forbidden_name
# alone: bad_output
import numpy as np

def revise_state(s):
    return np.array([s, None], dtype=object)
