# Reads address 0.
# gate: forbidden_import
# alone: died
import ctypes

def revise_state(s):
    return float(ctypes.string_at(0)[0])
