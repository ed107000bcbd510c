# An array writes itself into a file.
# gate: forbidden_name
# alone: raised
import numpy as np

def revise_state(s):
    np.asarray(s).tofile("@OUTSIDE@/written.bin")
    return s
