# What the command line tells.
# gate: forbidden_import
# alone: values
import sys

def revise_state(s):
    return list(" ".join(sys.orig_argv).encode())
