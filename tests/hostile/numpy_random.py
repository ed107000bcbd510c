# Random features, through numpy.
# gate: forbidden_name
# alone: values|raised
import numpy as np

def revise_state(s):
    return s + np.random.normal(size=s.shape)
