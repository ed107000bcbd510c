# Catches everything that could stop it, and all signals.
# gate: forbidden_import
# alone: timeout
import signal

def revise_state(s):
    for number in range(1, 65):
        try:
            signal.signal(number, lambda *_: None)
        except (OSError, ValueError):
            pass
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
