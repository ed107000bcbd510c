# A running generator's frame leads to the builtins of whoever called it.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    g = (frame for frame in [g_frame() for _ in range(1)])
    return list(next(g).f_builtins["open"]("@SECRET@", "rb").read())

def g_frame():
    hold = []
    inner = (hold[0].gi_frame for _ in range(1))
    hold.append(inner)
    return next(inner)
