# Endless before any function is called.
# gate: forbidden_syntax
# alone: timeout
for _ in iter(int, 1):
    pass

def revise_state(s):
    return s
