# Returns complex numbers.
# gate: bad_output
# alone: bad_output
import numpy as np

def revise_state(s):
    return np.fft.fft(s)
