# Keeps states in a list outside: each call gets another one.
# gate: values
# alone: values
seen = []

def revise_state(s):
    seen.append(s)
    return float(len(seen))
