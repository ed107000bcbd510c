# Ten gigabytes at once.
# gate: memory
# alone: memory
import numpy as np

def revise_state(s):
    return np.ones(10 * 2**30, dtype=np.uint8)[:5]
