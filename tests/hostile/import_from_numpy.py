# Takes a function that reads files from numpy by name.
# gate: forbidden_name
# alone: raised
from numpy import fromfile as f

def revise_state(s):
    return f("@SECRET@", dtype="u1")
