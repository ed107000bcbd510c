# numpy reads files.
# gate: forbidden_name
# alone: raised
import numpy as np

def revise_state(s):
    return np.fromfile("@SECRET@", dtype=np.uint8)
