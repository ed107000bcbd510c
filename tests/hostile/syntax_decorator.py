# A decorator, here one that remembers.
# gate: forbidden_syntax
# alone: values
def once(f):
    kept = []

    def g(s):
        kept.append(s)
        return f(kept[0])
    return g

@once
def revise_state(s):
    return s
