# Reads and writes memory beyond an array's end.
# gate: forbidden_name
# alone: values|died
import numpy as np

def revise_state(s):
    wide = np.lib.stride_tricks.as_strided(s, shape=(10**6,), strides=(8,))
    wide[1000:] = 0
    return wide[:100].copy()
