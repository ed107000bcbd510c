# Returns eighty megabytes.
# gate: bad_output
# alone: bad_output
import numpy as np

def revise_state(s):
    return np.zeros(10**7)
