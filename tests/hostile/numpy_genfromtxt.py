# numpy reads text files.
# gate: forbidden_name
# alone: raised
import numpy as np

def revise_state(s):
    return np.genfromtxt("@SECRET@", dtype=str).view(np.uint8)
