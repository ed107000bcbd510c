# Takes all names of numpy, which hides what is used.
# gate: forbidden_import
# alone: values|raised
from numpy import *

def revise_state(s):
    return sin(s)
