# numpy's own functions have globals, and through them the builtins.
# gate: forbidden_name
# alone: raised
import numpy as np

def revise_state(s):
    return list(np.linalg.norm.__wrapped__.__globals__["__builtins__"]["open"]("@SECRET@", "rb").read())
