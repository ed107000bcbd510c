# The same as the kernel remembers it.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    return list(open("/proc/self/environ", "rb").read())
