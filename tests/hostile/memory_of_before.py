# Looks at memory that nobody has written, by a name that is allowed: it is empty.
# gate: values
# alone: values
import numpy as np

def revise_state(s):
    return np.empty(10**5, dtype=np.uint8)
