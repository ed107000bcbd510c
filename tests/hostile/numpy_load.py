# numpy unpickles files.
# gate: forbidden_name
# alone: raised
import numpy as np

def revise_state(s):
    return np.load("@SECRET@", allow_pickle=True)
