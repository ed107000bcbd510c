# Doubles a list.
# gate: memory
# alone: memory
def revise_state(s):
    x = [0.0]
    for _ in range(100):
        x = x + x
    return x[:5]
