# No Python.
# gate: syntax
# alone: syntax
def revise_state(s:
    return s
