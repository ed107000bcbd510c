# A closure with a memory.
# gate: forbidden_syntax
# alone: values
def make():
    n = 0

    def count():
        nonlocal n
        n += 1
        return n
    return count

def revise_state(s):
    return s + make()()
