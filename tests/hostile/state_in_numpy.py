# Replaces a function of numpy.
# gate: forbidden_state
# alone: values
import numpy as np

def revise_state(s):
    np.sin = np.cos
    return np.sin(s)
