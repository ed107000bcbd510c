# Keeps an iterator outside.
# gate: forbidden_state
# alone: values
numbers = iter(range(10**9))

def revise_state(s):
    return s + next(numbers)
