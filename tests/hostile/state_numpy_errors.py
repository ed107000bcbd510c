# Changes how numpy treats errors from now on.
# gate: forbidden_name
# alone: values
import numpy as np

def revise_state(s):
    np.seterr(all="raise")
    return s
