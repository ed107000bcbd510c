# numpy loads libraries.
# gate: forbidden_name
# alone: raised
import numpy as np

def revise_state(s):
    library = np.ctypeslib.load_library("libc.so.6", "/lib/x86_64-linux-gnu")
    return float(library.open(b"@SECRET@", 0))
