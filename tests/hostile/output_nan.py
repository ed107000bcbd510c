# Not a number: crosses; whoever asked checks that values are finite.
# gate: values
# alone: values
import numpy as np

def revise_state(s):
    return s * np.nan
