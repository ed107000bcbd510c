# Prints fifty megabytes; nobody reads them, and nothing waits.
# gate: values
# alone: values
def revise_state(s):
    for _ in range(50):
        print("x" * 10**6)
    return s
