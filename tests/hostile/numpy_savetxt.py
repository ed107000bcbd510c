# numpy writes text files.
# gate: forbidden_name
# alone: raised
import numpy as np

def revise_state(s):
    np.savetxt("@OUTSIDE@/written.txt", s)
    return s
