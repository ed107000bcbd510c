# An array pickles itself into a file.
# gate: forbidden_name
# alone: raised
import numpy as np

def revise_state(s):
    np.asarray(s).dump("@OUTSIDE@/written.pickle")
    return s
