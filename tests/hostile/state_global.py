# Counts its calls in a global.
# gate: forbidden_syntax
# alone: values
count = 0

def revise_state(s):
    global count
    count += 1
    return s * count
