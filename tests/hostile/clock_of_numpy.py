# A clock: the same state has another feature every second.
# gate: forbidden_name
# alone: values
import numpy as np

def revise_state(s):
    return s + np.datetime64("now").astype(np.int64)
