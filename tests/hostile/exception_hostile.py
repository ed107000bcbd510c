# An exception that raises when it is printed.
# gate: forbidden_syntax
# alone: raised
class Angry(Exception):
    def __str__(self):
        raise SystemExit("no")

def revise_state(s):
    raise Angry()
