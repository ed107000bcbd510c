# Counts its calls in a constant of its own, which is read-only.
# gate: raised
# alone: raised
import numpy as np

COUNT = np.zeros(1)

def revise_state(s):
    count = COUNT
    count += 1
    return s * count
