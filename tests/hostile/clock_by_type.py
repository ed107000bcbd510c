# The same by the name of a type.
# gate: forbidden_name
# alone: values
import numpy as np

def revise_state(s):
    return s + np.array("now", dtype="M8[s]").astype(np.int64)
