# Keeps states in a default argument.
# gate: forbidden_state
# alone: values
def revise_state(s, seen=[]):
    seen.append(s)
    return float(len(seen))
