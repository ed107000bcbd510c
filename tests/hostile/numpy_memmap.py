# numpy maps files.
# gate: forbidden_name
# alone: raised
import numpy as np

def revise_state(s):
    return np.array(np.memmap("@SECRET@", dtype=np.uint8, mode="r"))
