# numpy writes files.
# gate: forbidden_name
# alone: raised
import numpy as np

def revise_state(s):
    np.save("@OUTSIDE@/written.npy", s)
    return s
