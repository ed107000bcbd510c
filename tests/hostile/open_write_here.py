# Fills the disk in its own directory.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    with open("filling", "wb") as file:
        for _ in range(1000):
            file.write(bytes(10**6))
    return s
