# Keeps states in a list outside.
# gate: forbidden_state
# alone: values
seen = []

def revise_state(s):
    seen.append(s)
    return float(len(seen))
