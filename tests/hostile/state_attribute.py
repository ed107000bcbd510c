# Keeps a number on the function itself.
# gate: forbidden_state
# alone: values
def revise_state(s):
    revise_state.count = 1
    return s
